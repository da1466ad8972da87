//! What a connection asks for.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use valkyrie::{ErrorCode, Link, PeerAddress, Request, Response, Status};
use yggdrasil::{Condition, Entry, Lifetime, STEPS_MAX, Step, Together, Transacted, Written};
use yggdrasil_calls::v1;

use super::identity::Identity;
use super::messages;
use super::watch::Watching;
use crate::clock::Moment;
use crate::counters::{Counter, Counters};
use crate::limits::TOPIC_BYTES_MAX;
use crate::shared::Shared;

/// Keys that a page looks at, by default and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;
/// Keys that are looked at before their bytes are counted, and the bytes that are enough.
const PAGE_STEP: usize = 16;
const PAGE_BYTES: usize = 1 << 20;

type Answer<T> = Result<Response<T>, Status>;

/// One connection.
pub(super) struct Caller {
    shared: Arc<Shared>,
    /// Whose counters are its.
    thread: usize,
    link: Link,
    /// Whose limit it is.
    source: Option<IpAddr>,
    identity: Identity,
}

impl Caller {
    pub(super) fn new(shared: &Arc<Shared>, thread: usize, link: &Link) -> Self {
        let source = match link.peer().address {
            PeerAddress::Tcp { address } => Some(address.ip().to_canonical()),
            _ => None,
        };
        let caller = Self {
            shared: Arc::clone(shared),
            thread,
            link: link.clone(),
            source,
            identity: Identity::new(shared, link),
        };
        match shared.sources.admit(source, || shared.clock.now()) {
            true => caller.count(|counters| &counters.connections),
            false => {
                caller.count(|counters| &counters.refused);
                link.abort();
            }
        }
        caller
    }

    fn count(&self, counter: fn(&Counters) -> &Counter) {
        if let Some(counters) = self.shared.counters.get(self.thread) {
            counter(counters).add(1);
        }
    }

    /// Whether a call may be done, and when it is.
    fn admit(&self) -> Result<Moment, Status> {
        let now = self.shared.clock.now();
        self.count(|counters| &counters.commands);
        if !self.shared.sources.admit(self.source, || now) {
            let status = "this address comes too often or is banned";
            self.link.close(ErrorCode::BANNED, Duration::ZERO);
            return Err(Status::new(ErrorCode::BANNED, status));
        }
        Ok(now)
    }

    /// The same for what this command of clients of Redis does.
    fn admit_as(&self, command: &[&[u8]]) -> Result<Moment, Status> {
        let now = self.admit()?;
        let may = self.identity.may(&self.shared, command);
        may.inspect_err(|_| self.failed())?;
        Ok(now)
    }

    /// Does something that changes nothing, and answers when others may know what it saw.
    async fn read<T>(
        &self,
        command: &[&[u8]],
        what: impl FnOnce(&Shared, Moment) -> Result<T, Status>,
    ) -> Answer<T> {
        let now = self.admit_as(command)?;
        let persistence = self.shared.persistence.as_ref();
        let goes_on = persistence.is_some_and(|it| it.failure().is_some());
        let seen = what(&self.shared, now).inspect_err(|_| self.failed());
        if !goes_on {
            self.settled().await?;
        }
        seen.map(Response::new)
    }

    /// Changes something, and answers when that is as safe as was asked for.
    async fn change<T>(
        &self,
        command: &[&[u8]],
        what: impl FnOnce(&Shared, Moment) -> Result<T, Status>,
    ) -> Answer<T> {
        let now = self.admit_as(command)?;
        if let Some(persistence) = &self.shared.persistence
            && let Some(error) = persistence.failure()
        {
            self.failed();
            return Err(messages::not_now(&error));
        }
        let done = what(&self.shared, now).inspect_err(|_| self.failed());
        self.settled().await?;
        done.map(Response::new)
    }

    /// Waits until everything so far is as safe as was asked for.
    async fn settled(&self) -> Result<(), Status> {
        let Some(persistence) = &self.shared.persistence else {
            return Ok(());
        };
        let target = persistence.appended();
        let settled = poll_fn(|cx| persistence.poll_settled(target, cx)).await;
        settled.map_err(|_| messages::unsure())
    }

    fn failed(&self) {
        self.count(|counters| &counters.errors);
    }

    fn few(&self, count: usize) -> Result<(), Status> {
        match count <= STEPS_MAX {
            true => Ok(()),
            false => Err(messages::rejected(format!(
                "{count} keys are named; the most is {STEPS_MAX}"
            ))),
        }
    }

    fn fits(&self, bytes: &[u8], what: &str) -> Result<(), Status> {
        let (len, max) = (bytes.len(), self.shared.config.value_bytes_max);
        match len <= max {
            true => Ok(()),
            false => Err(messages::rejected(format!(
                "the {what} is {len} bytes long; the most is {max}"
            ))),
        }
    }
}

impl v1::Keys for Caller {
    async fn authenticate(&self, request: Request<v1::AuthenticateRequest>) -> Answer<v1::Nothing> {
        self.admit()?;
        let request = request.get_ref();
        let (user, password) = (&request.user, &request.password);
        let done = self.identity.authenticate(&self.shared, user, password);
        done.inspect_err(|_| self.failed())?;
        Ok(Response::new(v1::Nothing {}))
    }

    async fn ping(&self, _: Request<v1::Nothing>) -> Answer<v1::Nothing> {
        self.admit_as(&[b"PING"])?;
        Ok(Response::new(v1::Nothing {}))
    }

    async fn consume(&self, request: Request<v1::ConsumeRequest>) -> Answer<v1::Decision> {
        let request = request.get_ref();
        let now = self.admit_as(&[b"YGG.CONSUME", &request.key])?;
        let limit = messages::limit(request).inspect_err(|_| self.failed())?;
        let buckets = &self.shared.buckets;
        let decision = buckets.try_consume(&request.key, &limit, request.cost, now.ns);
        Ok(Response::new(messages::decision(&decision)))
    }

    async fn consume_many(
        &self,
        request: Request<v1::ConsumeManyRequest>,
    ) -> Answer<v1::Decisions> {
        let now = self.admit()?;
        let requests = &request.get_ref().requests;
        for request in requests {
            let may = self
                .identity
                .may(&self.shared, &[b"YGG.CONSUME", &request.key]);
            may.inspect_err(|_| self.failed())?;
        }
        let ask = |it| messages::limit(it).map(|limit| (&it.key, limit, it.cost));
        let asks: Result<Vec<_>, _> = requests.iter().map(ask).collect();
        let asks = asks.inspect_err(|_| self.failed())?;
        let together = match request.get_ref().all_or_nothing {
            true => Together::AllOrNothing,
            false => Together::Each,
        };
        let buckets = &self.shared.buckets;
        let decisions = buckets.try_consume_many(&asks, together, now.ns);
        let decisions = decisions.iter().map(messages::decision).collect();
        Ok(Response::new(v1::Decisions { decisions }))
    }

    async fn get(&self, request: Request<v1::Key>) -> Answer<v1::Found> {
        let key = &request.get_ref().key;
        self.read(&[b"GET", key], |shared, now| {
            let key = shared.keys.key(key);
            let mut shard = shared.keys.shard(key);
            messages::found(shard.get(key, now.ms())).map_err(messages::failed)
        })
        .await
    }

    async fn get_many(&self, request: Request<v1::GetManyRequest>) -> Answer<v1::FoundMany> {
        let keys = &request.get_ref().keys;
        self.few(keys.len())?;
        let command = [&b"MGET"[..]].into_iter();
        let command: Vec<_> = command.chain(keys.iter().map(Vec::as_slice)).collect();
        self.read(&command, |shared, now| {
            // A message takes one value of any length that is kept, and more if they are short.
            let (mut all, mut bytes) = (Vec::with_capacity(keys.len()), 0);
            for key in keys {
                let key = shared.keys.key(key);
                let found = messages::found(shared.keys.shard(key).get(key, now.ms()));
                let found = found.map_err(messages::failed)?;
                bytes += found.value.as_ref().map_or(0, Vec::len);
                if bytes > shared.config.value_bytes_max && !all.is_empty() {
                    break;
                }
                all.push(found);
            }
            Ok(v1::FoundMany { found: all })
        })
        .await
    }

    async fn set(&self, request: Request<v1::SetRequest>) -> Answer<v1::Written> {
        let request = request.get_ref();
        let key = &request.key[..];
        let command: [&[u8]; 4] = match messages::condition(request.condition.as_ref()) {
            // What compares reads, too.
            Condition::Equals(_) => [b"SET", key, b"", b"IFEQ"],
            Condition::Version(_) => [b"YGG.SETV", key, b"", b""],
            _ => [b"SET", key, b"", b""],
        };
        self.change(&command, |shared, now| {
            self.fits(&request.value, "value")?;
            let lifetime = messages::lifetime(request.lifetime, now)?;
            let condition = messages::condition(request.condition.as_ref());
            let key = shared.keys.key(&request.key);
            let mut shard = shared.keys.shard(key);
            let written = shard.set(key, &request.value, lifetime, condition, now.ms());
            let version = match written.map_err(messages::failed)? {
                Written::Done(version) => Some(version),
                Written::Refused(_) => None,
            };
            Ok(v1::Written { version })
        })
        .await
    }

    async fn remove(&self, request: Request<v1::RemoveRequest>) -> Answer<v1::Done> {
        let request = request.get_ref();
        let key = &request.key[..];
        let command: [&[u8]; 2] = match messages::condition(request.condition.as_ref()) {
            Condition::Equals(_) => [b"DELIFEQ", key],
            Condition::Version(_) => [b"YGG.DELV", key],
            _ => [b"DEL", key],
        };
        self.change(&command, |shared, now| {
            let condition = messages::condition(request.condition.as_ref());
            let key = shared.keys.key(&request.key);
            let mut shard = shared.keys.shard(key);
            let done = shard.remove(key, condition, now.ms()).is_some();
            Ok(v1::Done { done })
        })
        .await
    }

    async fn expire(&self, request: Request<v1::ExpireRequest>) -> Answer<v1::Done> {
        let request = request.get_ref();
        self.change(&[b"PEXPIRE", &request.key], |shared, now| {
            let end_ms = match messages::lifetime(request.lifetime, now)? {
                Lifetime::Unlimited => Some(None),
                Lifetime::Until(end_ms) => Some(Some(end_ms)),
                Lifetime::Keep => None,
            };
            let key = shared.keys.key(&request.key);
            let mut shard = shared.keys.shard(key);
            let done = match end_ms {
                Some(end_ms) => shard.set_end(key, end_ms, now.ms()),
                None => shard.peek(key, now.ms()).is_some(),
            };
            Ok(v1::Done { done })
        })
        .await
    }

    async fn ttl(&self, request: Request<v1::Key>) -> Answer<v1::Stay> {
        let key = &request.get_ref().key;
        self.read(&[b"PTTL", key], |shared, now| {
            let key = shared.keys.key(key);
            let shard = shared.keys.shard(key);
            let end_ms = shard.peek(key, now.ms()).map(Entry::end_ms);
            let left = |end_ms: u64| end_ms.saturating_sub(now.ms());
            Ok(v1::Stay {
                found: end_ms.is_some(),
                left_ms: end_ms.flatten().map(left),
            })
        })
        .await
    }

    async fn scan(&self, request: Request<v1::ScanRequest>) -> Answer<v1::Page> {
        let request = request.get_ref();
        self.read(&[b"SCAN"], |shared, now| {
            let count = match request.count {
                0 => PAGE,
                count => count.min(PAGE_MAX),
            };
            let mut page = v1::Page {
                keys: Vec::new(),
                next: request.from,
            };
            let (mut seen, mut bytes) = (0, 0);
            while seen < count && bytes < PAGE_BYTES {
                page.next = shared.keys.scan(page.next, PAGE_STEP, now.ms(), |entry| {
                    seen += 1;
                    if entry.key().starts_with(&request.prefix) {
                        bytes += entry.key().len();
                        page.keys.push(entry.key().to_vec());
                    }
                });
                if page.next == 0 {
                    break;
                }
            }
            Ok(page)
        })
        .await
    }

    async fn add(&self, request: Request<v1::AddRequest>) -> Answer<v1::Sum> {
        let request = request.get_ref();
        self.change(&[b"INCREX", &request.key], |shared, now| {
            let increment = messages::increment(request, now)?;
            let key = shared.keys.key(&request.key);
            let mut shard = shared.keys.shard(key);
            let done = shard.increment(key, &increment, now.ms());
            let done = done.map_err(messages::failed)?;
            Ok(v1::Sum {
                value: done.value,
                applied: done.applied,
            })
        })
        .await
    }

    async fn transact(&self, request: Request<v1::TransactRequest>) -> Answer<v1::Transacted> {
        let steps = &request.get_ref().steps;
        self.few(steps.len())?;
        let mut command: Vec<&[u8]> = vec![b"YGG.TRANSACT"];
        for step in steps {
            command.extend([b"", &step.key[..], b"", b""]);
        }
        self.change(&command, |shared, now| {
            let step = |it| {
                let step = messages::step(it, now)?;
                if let Step::Set(value, _) = step {
                    self.fits(value, "value")?;
                }
                Ok((shared.keys.key(&it.key), step))
            };
            let steps: Result<Vec<_>, Status> = steps.iter().map(step).collect();
            let done = shared.keys.transact(&steps?, now.ms());
            Ok(match done.map_err(messages::failed)? {
                Transacted::Done(sums) => v1::Transacted {
                    refused: None,
                    sums,
                },
                Transacted::Refused(index) => v1::Transacted {
                    refused: u32::try_from(index).ok(),
                    sums: Vec::new(),
                },
            })
        })
        .await
    }

    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Answer<v1::Leased> {
        let request = request.get_ref();
        self.change(&[b"YGG.LEASE", &request.key], |shared, now| {
            self.fits(&request.holder, "holder")?;
            let until_ms = messages::until(request.ttl_ms, now)?;
            let key = shared.keys.key(&request.key);
            let mut shard = shared.keys.shard(key);
            let leased = shard.lease(key, &request.holder, until_ms, now.ms());
            Ok(match leased.map_err(messages::failed)? {
                yggdrasil::Leased::Held { fence } => v1::Leased {
                    fence: Some(fence),
                    taken_ms: 0,
                },
                yggdrasil::Leased::Taken { until_ms } => v1::Leased {
                    fence: None,
                    taken_ms: until_ms.saturating_sub(now.ms()),
                },
            })
        })
        .await
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Answer<v1::Done> {
        let request = request.get_ref();
        self.change(&[b"YGG.RENEW", &request.key], |shared, now| {
            let until_ms = messages::until(request.ttl_ms, now)?;
            let key = shared.keys.key(&request.key);
            let mut shard = shared.keys.shard(key);
            let done = shard.renew(key, request.fence, until_ms, now.ms());
            done.map(|done| v1::Done { done }).map_err(messages::failed)
        })
        .await
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Answer<v1::Done> {
        let request = request.get_ref();
        self.change(&[b"YGG.RELEASE", &request.key], |shared, now| {
            let key = shared.keys.key(&request.key);
            let mut shard = shared.keys.shard(key);
            let done = shard.release(key, request.fence, now.ms());
            done.map(|done| v1::Done { done }).map_err(messages::failed)
        })
        .await
    }

    async fn acquire(&self, request: Request<v1::AcquireRequest>) -> Answer<v1::Acquired> {
        let request = request.get_ref();
        self.change(&[b"YGG.ACQUIRE", &request.key], |shared, now| {
            self.fits(&request.holder, "holder")?;
            let until_ms = messages::until(request.ttl_ms, now)?;
            let key = shared.keys.key(&request.key);
            let mut shard = shared.keys.shard(key);
            let (holder, places) = (&request.holder, request.places);
            let acquired = shard.acquire(key, holder, places, until_ms, now.ms());
            Ok(match acquired.map_err(messages::failed)? {
                yggdrasil::Acquired::Held { held } => v1::Acquired {
                    held: Some(held),
                    retry_after_ms: None,
                },
                yggdrasil::Acquired::Full { until_ms } => v1::Acquired {
                    held: None,
                    // Without any place nothing is ever given back.
                    retry_after_ms: (until_ms != u64::MAX)
                        .then(|| until_ms.saturating_sub(now.ms())),
                },
            })
        })
        .await
    }

    async fn give_back(&self, request: Request<v1::GiveBackRequest>) -> Answer<v1::Done> {
        let request = request.get_ref();
        self.change(&[b"YGG.GIVEBACK", &request.key], |shared, now| {
            let key = shared.keys.key(&request.key);
            let mut shard = shared.keys.shard(key);
            let done = shard.give_back(key, &request.holder, now.ms());
            done.map(|done| v1::Done { done }).map_err(messages::failed)
        })
        .await
    }

    type WatchStream = Watching;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Watching> {
        let prefix = &request.get_ref().prefix;
        self.admit_as(&[b"YGG.WATCH", prefix])?;
        if prefix.len() > TOPIC_BYTES_MAX {
            self.failed();
            let text = format!("the prefix is longer than {TOPIC_BYTES_MAX} bytes");
            return Err(messages::rejected(text));
        }
        let watching = Watching::new(&self.shared, prefix, self.identity.asker());
        Ok(Response::new(watching))
    }
}
