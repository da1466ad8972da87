//! Operations on several keys.

use std::borrow::Cow;

use futures_util::future::try_join_all;
use redis::cluster_routing::{Route, SingleNodeRoutingInfo, Slot, SlotAddr};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, cmd};
use yggdrasil::{Decision, Together, Transacted};

use super::connection::Connection;
use super::encoded::SWAPS_MAX;
use super::link::Link;
use super::ops::{self, decision};
use super::scripts::SCRIPTS;
use super::{Flavor, RedisStore};
use crate::adapter::{Condition, Lifetime, StoreAdapter, TokenRequest, Value};
use crate::duration::ms;
use crate::error::StoreError;
use crate::transaction::{Action, Step, Transaction};

type Result<T> = std::result::Result<T, StoreError>;

fn from_redis_value<T: FromRedisValue>(value: redis::Value) -> RedisResult<T> {
    redis::from_redis_value(value).map_err(RedisError::from)
}

/// A step as scripts and Yggdrasil take it.
struct Words<'a> {
    key: &'a [u8],
    word: &'static str,
    argument: Cow<'a, [u8]>,
    lifetime: String,
}

impl RedisStore {
    /// Runs a command of Yggdrasil whose first key is not where a client of Redis looks for one.
    async fn run_for<T: FromRedisValue>(
        &self,
        link: &Link,
        key: &[u8],
        command: &Cmd,
    ) -> Result<T> {
        let route = Route::with_slot(Slot::for_key(key), SlotAddr::Master);
        let node = SingleNodeRoutingInfo::SpecificNode(route);
        let answer = link.connection.clone().on(command, node).await;
        self.answered(link, answer).await
    }

    pub(super) async fn read_all(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        let link = self.link().await?;
        // In a cluster they are not all in one place.
        if keys.is_empty() || matches!(link.connection, Connection::Cluster(_)) {
            return try_join_all(keys.iter().map(|key| self.read(key))).await;
        }
        let is_own = link.flavor == Flavor::Yggdrasil;
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.cmd(if is_own { "YGG.GETV" } else { "GET" }).arg(*key);
        }
        // Those of single keys, which say what is wrong.
        pipe.ignore_errors();
        let answer = pipe.query_async(&mut link.connection.clone()).await;
        let answers: Vec<RedisResult<redis::Value>> = self.answered(&link, answer).await?;
        let mut found = Vec::with_capacity(keys.len());
        for (key, answer) in keys.iter().zip(answers) {
            let value = match is_own {
                true => {
                    let answer = answer.and_then(from_redis_value::<Option<(Vec<u8>, u64)>>);
                    let value = self.answered(&link, answer).await?;
                    value.map(|(bytes, version)| (bytes, Some(version)))
                }
                false => {
                    let answer = answer.and_then(from_redis_value::<Option<Vec<u8>>>);
                    let value = self.answered(&link, answer).await?;
                    value.map(|bytes| (bytes, None))
                }
            };
            let value = value.map(|(bytes, version)| Value {
                bytes: bytes.into(),
                version,
            });
            found.push(self.decoded(key, value)?);
        }
        Ok(found)
    }

    pub(super) async fn consume_all(
        &self,
        requests: &[TokenRequest<'_>],
        together: Together,
    ) -> Result<Vec<Decision>> {
        let Some(first) = requests.first() else {
            return Ok(Vec::new());
        };
        let link = self.link().await?;
        let is_own = link.flavor == Flavor::Yggdrasil;
        let is_cluster = matches!(link.connection, Connection::Cluster(_));
        if together == Together::Each && (is_cluster || !is_own) {
            let each = requests.iter();
            let each = each.map(|it| async { self.consume(it.key, &it.limit, it.cost).await });
            return try_join_all(each).await;
        }
        if is_own {
            let mut command = cmd("YGG.CONSUMEMANY");
            command.arg(match together {
                Together::AllOrNothing => "ALL",
                Together::Each => "EACH",
            });
            for it in requests {
                let (emission_ns, burst) = (it.limit.emission_ns(), it.limit.burst());
                command.arg(it.key).arg(emission_ns).arg(burst).arg(it.cost);
            }
            let answers: Vec<ops::Answer> = self.run_for(&link, first.key, &command).await?;
            return Ok(answers.into_iter().map(|it| decision(it, 1)).collect());
        }
        let keys: Vec<&[u8]> = requests.iter().map(|it| it.key).collect();
        let numbers = requests.iter().flat_map(|it| {
            let each = it.limit.emission_ns().div_ceil(1000);
            [each, it.limit.burst().into(), it.cost.into()]
        });
        let texts: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let args: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        let script = &SCRIPTS.consume_many;
        let answers: Vec<ops::Answer> = self.script(&link, script, &keys, &args).await?;
        Ok(answers.into_iter().map(|it| decision(it, 1000)).collect())
    }

    pub(super) async fn transact_coded(&self, transaction: &Transaction<'_>) -> Result<Transacted> {
        transaction.is_sound(&self.0.name)?;
        let link = self.link().await?;
        for _ in 0..SWAPS_MAX {
            let mut steps = Vec::with_capacity(transaction.steps().len());
            for (index, step) in transaction.steps().iter().enumerate() {
                match self.words(&link, step).await? {
                    Some(words) => steps.push(words),
                    None => return Ok(Transacted::Refused(index)),
                }
            }
            let transacted = self.transact_stored(&link, &steps).await?;
            // A value that cannot be compared by the server may have been written anew as it was.
            let was_looked_at = |index: usize| {
                let step = transaction.steps().get(index);
                let action = step.map(|step| step.action);
                matches!(action, Some(Action::Check(Condition::Equals(_))))
            };
            match transacted {
                Transacted::Refused(index) if self.codec().is_some() && was_looked_at(index) => {}
                transacted => return Ok(transacted),
            }
        }
        Err(self.changes_too_often())
    }

    /// What the server is told of a step; `None` where it is known not to hold.
    async fn words<'a>(&self, link: &Link, step: &Step<'a>) -> Result<Option<Words<'a>>> {
        let mut lifetime = String::new();
        let (word, argument): (_, Cow<'_, [u8]>) = match step.action {
            Action::Check(Condition::Always) => ("ALWAYS", Cow::default()),
            Action::Check(Condition::Absent) => ("ABSENT", Cow::default()),
            Action::Check(Condition::Present) => ("PRESENT", Cow::default()),
            Action::Check(Condition::Version(version)) if link.flavor == Flavor::Yggdrasil => {
                ("VERSION", Cow::from(version.to_string().into_bytes()))
            }
            Action::Check(Condition::Version(_)) => return self.unsupported("versions"),
            Action::Check(Condition::Equals(expected)) => match self.codec() {
                None => ("EQUALS", Cow::Borrowed(expected)),
                Some(codec) => match self.found_equal(codec, step.key, expected).await? {
                    Some(found) => ("EQUALS", Cow::from(found.to_vec())),
                    None => return Ok(None),
                },
            },
            Action::Set(value, stays) => {
                lifetime = match stays {
                    Lifetime::Unlimited => String::new(),
                    Lifetime::Keep => "KEEPTTL".to_owned(),
                    Lifetime::For(ttl) => ms(ttl).to_string(),
                };
                let value = match self.codec() {
                    None => Cow::Borrowed(value),
                    Some(codec) => {
                        let encoded = codec.encode(step.key, value);
                        encoded.map_err(|error| self.uncoded(&error))?
                    }
                };
                ("SET", value)
            }
            Action::Remove => ("DEL", Cow::default()),
            Action::Add(by) => ("INCRBY", Cow::from(by.to_string().into_bytes())),
        };
        Ok(Some(Words {
            key: step.key,
            word,
            argument,
            lifetime,
        }))
    }

    async fn transact_stored(&self, link: &Link, steps: &[Words<'_>]) -> Result<Transacted> {
        let Some(first) = steps.first() else {
            return Ok(Transacted::Done(Vec::new()));
        };
        let answer: Vec<i64> = if link.flavor == Flavor::Yggdrasil {
            let mut command = cmd("YGG.TRANSACT");
            for it in steps {
                command.arg(it.word).arg(it.key).arg(&it.argument[..]);
                command.arg(&it.lifetime);
            }
            self.run_for(link, first.key, &command).await?
        } else {
            let keys: Vec<&[u8]> = steps.iter().map(|it| it.key).collect();
            let words = steps
                .iter()
                .flat_map(|it| [it.word.as_bytes(), &it.argument, it.lifetime.as_bytes()]);
            let args: Vec<&[u8]> = words.collect();
            let script = &SCRIPTS.transact;
            self.script(link, script, &keys, &args).await?
        };
        Ok(match answer.split_first() {
            Some((1, sums)) => Transacted::Done(sums.to_vec()),
            _ => {
                let index = answer.get(1).and_then(|index| usize::try_from(*index).ok());
                Transacted::Refused(index.unwrap_or_default())
            }
        })
    }
}
