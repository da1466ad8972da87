//! The operations, as commands or scripts.

use std::time::Duration;

use bytes::Bytes;
use redis::cluster_routing::SingleNodeRoutingInfo;
use redis::{Cmd, FromRedisValue, Script, cmd};
use yggdrasil::{Beyond, Decision, Limit, Outcome, Together, Transacted};

use super::link::Link;
use super::scripts::SCRIPTS;
use super::{Flavor, RedisStore};
use crate::adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, Page, StoreAdapter, TokenRequest,
    Value, Written,
};
use crate::duration::ms;
use crate::error::StoreError;
use crate::transaction::Transaction;
use crate::watch::Watch;

/// Keys that a server looks at for a page.
const PAGE: usize = 100;
/// Cursors of a node of a cluster are below two to this.
const NODE_SHIFT: u32 = 48;

type Result<T> = std::result::Result<T, StoreError>;

impl RedisStore {
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let link = self.link().await?;
        self.run_on(&link, command).await
    }

    async fn run_on<T: FromRedisValue>(&self, link: &Link, command: &Cmd) -> Result<T> {
        let mut connection = link.connection.clone();
        let answer = command.query_async(&mut connection).await;
        self.answered(link, answer).await
    }

    pub(super) async fn script<T: FromRedisValue>(
        &self,
        link: &Link,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Result<T> {
        let mut invocation = script.prepare_invoke();
        for key in keys {
            invocation.key(*key);
        }
        for arg in args {
            invocation.arg(*arg);
        }
        let mut connection = link.connection.clone();
        let answer = invocation.invoke_async(&mut connection).await;
        self.answered(link, answer).await
    }

    pub(super) fn unsupported<T>(&self, what: &'static str) -> Result<T> {
        Err(StoreError::Unsupported {
            store: self.0.name.clone(),
            what,
        })
    }

    async fn read_with_version(&self, link: &Link, key: &[u8]) -> Result<Option<Value>> {
        let found: Option<(Vec<u8>, u64)> = self.run_on(link, cmd("YGG.GETV").arg(key)).await?;
        Ok(found.map(|(bytes, version)| Value {
            bytes: bytes.into(),
            version: Some(version),
        }))
    }

    async fn write_version(
        &self,
        link: &Link,
        (key, value): (&[u8], &[u8]),
        lifetime: Lifetime,
        version: u64,
    ) -> Result<Written> {
        if link.flavor != Flavor::Yggdrasil {
            return self.unsupported("versions");
        }
        let mut command = cmd("YGG.SETV");
        command.arg(key).arg(value).arg(version);
        add_lifetime(&mut command, lifetime);
        let (done, version): (i64, u64) = self.run_on(link, &command).await?;
        Ok(match done {
            1 => Written::Done(Some(version)),
            _ => Written::Refused,
        })
    }

    // What the server has, as it is.

    pub(super) async fn read_stored(&self, key: &[u8]) -> Result<Option<Value>> {
        let link = self.link().await?;
        if link.flavor == Flavor::Yggdrasil {
            return self.read_with_version(&link, key).await;
        }
        let bytes: Option<Vec<u8>> = self.run_on(&link, cmd("GET").arg(key)).await?;
        Ok(bytes.map(|bytes| Value {
            bytes: bytes.into(),
            version: None,
        }))
    }

    pub(super) async fn write_stored(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> Result<Written> {
        let link = self.link().await?;
        let is_own = link.flavor == Flavor::Yggdrasil;
        let mut command = cmd("SET");
        command.arg(key).arg(value);
        match condition {
            Condition::Always => {}
            Condition::Absent => {
                command.arg("NX");
            }
            Condition::Present => {
                command.arg("XX");
            }
            Condition::Equals(expected) if is_own => {
                command.arg("IFEQ").arg(expected);
            }
            Condition::Equals(expected) => {
                let px = match lifetime {
                    Lifetime::For(ttl) => ms(ttl).to_string(),
                    _ => String::new(),
                };
                let mut args = vec![expected, value];
                match lifetime {
                    Lifetime::Unlimited => {}
                    Lifetime::Keep => args.push(b"KEEPTTL"),
                    Lifetime::For(_) => args.extend([&b"PX"[..], px.as_bytes()]),
                }
                let done: i64 = self.script(&link, &SCRIPTS.write, &[key], &args).await?;
                return Ok(match done {
                    1 => Written::Done(None),
                    _ => Written::Refused,
                });
            }
            Condition::Version(version) => {
                return self
                    .write_version(&link, (key, value), lifetime, version)
                    .await;
            }
        }
        add_lifetime(&mut command, lifetime);
        let done: Option<String> = self.run_on(&link, &command).await?;
        Ok(match done {
            Some(_) => Written::Done(None),
            None => Written::Refused,
        })
    }

    pub(super) async fn remove_stored(&self, key: &[u8], condition: Condition<'_>) -> Result<bool> {
        let link = self.link().await?;
        let is_own = link.flavor == Flavor::Yggdrasil;
        let removed: i64 = match condition {
            Condition::Always | Condition::Present => {
                self.run_on(&link, cmd("DEL").arg(key)).await?
            }
            Condition::Absent => 0,
            Condition::Equals(expected) if is_own => {
                self.run_on(&link, cmd("DELIFEQ").arg(key).arg(expected))
                    .await?
            }
            Condition::Equals(expected) => {
                self.script(&link, &SCRIPTS.remove, &[key], &[expected])
                    .await?
            }
            Condition::Version(version) if is_own => {
                let command = cmd("YGG.DELV").arg(key).arg(version).to_owned();
                let (removed, _): (i64, u64) = self.run_on(&link, &command).await?;
                removed
            }
            Condition::Version(_) => return self.unsupported("versions"),
        };
        Ok(removed == 1)
    }
}

fn add_lifetime(command: &mut Cmd, lifetime: Lifetime) {
    match lifetime {
        Lifetime::Unlimited => {}
        Lifetime::Keep => {
            command.arg("KEEPTTL");
        }
        Lifetime::For(ttl) => {
            command.arg("PX").arg(ms(ttl));
        }
    }
}

/// Where the fencing numbers of a lease are counted: beside it in a cluster, too.
fn fence_key(key: &[u8]) -> Vec<u8> {
    [b"{", key, b"}:fence"].concat()
}

/// What `SCAN` takes for just these bytes and any behind them.
pub(super) fn pattern(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for byte in prefix {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^') {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern.push(b'*');
    pattern
}

/// What is answered of a bucket: 0 allowed, 1 denied, 2 never; tokens left; time to wait; time until
/// full.
pub(super) type Answer = (i64, u32, u64, u64);

pub(super) fn decision(
    (outcome, remaining, retry_after, reset_after): Answer,
    unit: u64,
) -> Decision {
    Decision {
        outcome: match outcome {
            0 => Outcome::Allowed,
            1 => Outcome::Denied,
            _ => Outcome::Never,
        },
        remaining,
        retry_after_ns: retry_after.saturating_mul(unit),
        reset_after_ns: reset_after.saturating_mul(unit),
    }
}

fn acquired((held, value): (i64, i64)) -> Acquired {
    match held {
        1 => Acquired::Held {
            held: u32::try_from(value).unwrap_or(u32::MAX),
        },
        _ => Acquired::Full {
            retry_after: u64::try_from(value).ok().map(Duration::from_millis),
        },
    }
}

fn leased((held, value): (i64, u64)) -> Leased {
    match held {
        1 => Leased::Held { fence: value },
        _ => Leased::Taken {
            for_at_most: Duration::from_millis(value),
        },
    }
}

impl StoreAdapter for RedisStore {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn caps(&self) -> Caps {
        Caps {
            versions: false,
            nanoseconds: false,
            shared: true,
            encoded: self.1.is_some(),
            watch: true,
        }
    }

    async fn read(&self, key: &[u8]) -> Result<Option<Value>> {
        let found = self.read_stored(key).await?;
        self.decoded(key, found)
    }

    async fn read_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.read_all(keys).await
    }

    async fn write(
        &self,
        key: &[u8],
        value: &[u8],
        lifetime: Lifetime,
        condition: Condition<'_>,
    ) -> Result<Written> {
        self.write_coded(key, value, lifetime, condition).await
    }

    async fn remove(&self, key: &[u8], condition: Condition<'_>) -> Result<bool> {
        self.remove_coded(key, condition).await
    }

    async fn set_lifetime(&self, key: &[u8], lifetime: Lifetime) -> Result<bool> {
        match lifetime {
            Lifetime::For(ttl) => {
                let done: i64 = self.run(cmd("PEXPIRE").arg(key).arg(ms(ttl))).await?;
                Ok(done == 1)
            }
            Lifetime::Keep => {
                let there: i64 = self.run(cmd("EXISTS").arg(key)).await?;
                Ok(there == 1)
            }
            Lifetime::Unlimited => {
                // Two steps as one: PERSIST does not say whether there is a key.
                let link = self.link().await?;
                let mut connection = link.connection.clone();
                let mut pipe = redis::pipe();
                pipe.atomic().cmd("EXISTS").arg(key).cmd("PERSIST").arg(key);
                let answer = pipe.query_async(&mut connection).await;
                let (there, _): (i64, i64) = self.answered(&link, answer).await?;
                Ok(there == 1)
            }
        }
    }

    async fn lifetime(&self, key: &[u8]) -> Result<Option<Option<Duration>>> {
        let left: i64 = self.run(cmd("PTTL").arg(key)).await?;
        Ok(match left {
            -2 => None,
            left => Some(u64::try_from(left).ok().map(Duration::from_millis)),
        })
    }

    async fn scan(&self, prefix: &[u8], from: Option<u64>) -> Result<Page> {
        let link = self.link().await?;
        let mut connection = link.connection.clone();
        let nodes = connection.nodes(self.host()).await;
        let nodes = self.answered(&link, nodes).await?;
        // In a cluster one node comes after the other; its number stands above its own cursor.
        let from = from.unwrap_or(0);
        let (number, cursor) = match nodes.is_empty() {
            true => (0, from),
            false => (
                (from >> NODE_SHIFT) as usize,
                from & ((1 << NODE_SHIFT) - 1),
            ),
        };
        let mut command = cmd("SCAN");
        command
            .arg(cursor)
            .arg("MATCH")
            .arg(pattern(prefix))
            .arg("COUNT")
            .arg(PAGE);
        let node = match nodes.get(number) {
            Some((host, port)) => SingleNodeRoutingInfo::ByAddress {
                host: host.clone(),
                port: *port,
            },
            None if number > 0 => return Ok(Page::default()),
            None => SingleNodeRoutingInfo::Random,
        };
        let answer = connection.on(&command, node).await;
        let (next, keys): (u64, Vec<Vec<u8>>) = self.answered(&link, answer).await?;
        let is_last = nodes.is_empty() || number + 1 == nodes.len();
        let next = match (next, is_last) {
            (0, true) => None,
            (0, false) => Some((number as u64 + 1) << NODE_SHIFT),
            (next, _) if nodes.is_empty() => Some(next),
            (next, _) => Some((number as u64) << NODE_SHIFT | next),
        };
        Ok(Page {
            keys: keys.into_iter().map(Bytes::from).collect(),
            next,
        })
    }

    async fn add(&self, key: &[u8], increment: &Increment) -> Result<(i64, i64)> {
        let by = increment.by;
        if increment.bounds.is_none() && increment.ttl.is_none() {
            let value: i64 = self.run(cmd("INCRBY").arg(key).arg(by)).await?;
            return Ok((value, by));
        }
        let link = self.link().await?;
        let ttl = increment.ttl.map(ms);
        if link.flavor == Flavor::Yggdrasil {
            let mut command = cmd("INCREX");
            command.arg(key).arg("BYINT").arg(by);
            if let Some((least, greatest)) = increment.bounds {
                command.arg("LBOUND").arg(least).arg("UBOUND").arg(greatest);
            }
            if increment.beyond == Beyond::Saturate {
                command.arg("SATURATE");
            }
            if let Some(ttl) = ttl {
                command.arg("PX").arg(ttl).arg("ENX");
            }
            return self.run_on(&link, &command).await;
        }
        // What a script can count exactly.
        let (least, greatest) = increment.bounds.unwrap_or((-(1 << 53), 1 << 53));
        let texts = [by.to_string(), least.to_string(), greatest.to_string()];
        let saturates: &[u8] = match increment.beyond {
            Beyond::Refuse => b"0",
            Beyond::Saturate => b"1",
        };
        let ttl = ttl.map_or(String::new(), |ttl| ttl.to_string());
        let [by, least, greatest] = texts.each_ref().map(String::as_bytes);
        let args = [by, least, greatest, saturates, ttl.as_bytes()];
        self.script(&link, &SCRIPTS.add, &[key], &args).await
    }

    async fn consume(&self, key: &[u8], limit: &Limit, cost: u32) -> Result<Decision> {
        let link = self.link().await?;
        if link.flavor == Flavor::Yggdrasil {
            let command = cmd("YGG.CONSUME")
                .arg(key)
                .arg(limit.emission_ns())
                .arg(limit.burst())
                .arg(cost)
                .to_owned();
            return Ok(decision(self.run_on(&link, &command).await?, 1));
        }
        // Rounded up, so that it is never more than was asked for.
        let each = limit.emission_ns().div_ceil(1000).to_string();
        let (burst, cost) = (limit.burst().to_string(), cost.to_string());
        let args = [each.as_bytes(), burst.as_bytes(), cost.as_bytes()];
        let answer = self.script(&link, &SCRIPTS.consume, &[key], &args).await?;
        Ok(decision(answer, 1000))
    }

    async fn consume_many(
        &self,
        requests: &[TokenRequest<'_>],
        together: Together,
    ) -> Result<Vec<Decision>> {
        self.consume_all(requests, together).await
    }

    async fn transact(&self, transaction: &Transaction<'_>) -> Result<Transacted> {
        self.transact_coded(transaction).await
    }

    async fn lease(&self, key: &[u8], holder: &[u8], ttl: Duration) -> Result<Leased> {
        let link = self.link().await?;
        let ttl = ms(ttl);
        if link.flavor == Flavor::Yggdrasil {
            let command = cmd("YGG.LEASE").arg(key).arg(holder).arg(ttl).to_owned();
            return Ok(leased(self.run_on(&link, &command).await?));
        }
        let (fence, ttl) = (fence_key(key), ttl.to_string());
        let args = [holder, ttl.as_bytes()];
        let answer = self
            .script(&link, &SCRIPTS.lease, &[key, &fence], &args)
            .await?;
        Ok(leased(answer))
    }

    async fn renew(&self, key: &[u8], fence: u64, ttl: Duration) -> Result<bool> {
        let link = self.link().await?;
        let done: i64 = match link.flavor {
            Flavor::Yggdrasil => {
                let command = cmd("YGG.RENEW").arg(key).arg(fence).arg(ms(ttl)).to_owned();
                self.run_on(&link, &command).await?
            }
            Flavor::Redis | Flavor::Valkey => {
                let (fence, ttl) = (fence.to_string(), ms(ttl).to_string());
                let args = [fence.as_bytes(), ttl.as_bytes()];
                self.script(&link, &SCRIPTS.renew, &[key], &args).await?
            }
        };
        Ok(done == 1)
    }

    async fn release(&self, key: &[u8], fence: u64) -> Result<bool> {
        let link = self.link().await?;
        let done: i64 = match link.flavor {
            Flavor::Yggdrasil => {
                let command = cmd("YGG.RELEASE").arg(key).arg(fence).to_owned();
                self.run_on(&link, &command).await?
            }
            Flavor::Redis | Flavor::Valkey => {
                let fence = fence.to_string();
                let args = [fence.as_bytes(), b""];
                self.script(&link, &SCRIPTS.renew, &[key], &args).await?
            }
        };
        Ok(done == 1)
    }

    async fn acquire(
        &self,
        key: &[u8],
        holder: &[u8],
        places: u32,
        ttl: Duration,
    ) -> Result<Acquired> {
        let link = self.link().await?;
        let answer = match link.flavor {
            Flavor::Yggdrasil => {
                let mut command = cmd("YGG.ACQUIRE");
                command.arg(key).arg(holder).arg(places).arg(ms(ttl));
                self.run_on(&link, &command).await?
            }
            Flavor::Redis | Flavor::Valkey => {
                let (places, ttl) = (places.to_string(), ms(ttl).to_string());
                let args = [holder, places.as_bytes(), ttl.as_bytes()];
                self.script(&link, &SCRIPTS.acquire, &[key], &args).await?
            }
        };
        Ok(acquired(answer))
    }

    async fn give_back(&self, key: &[u8], holder: &[u8]) -> Result<bool> {
        let link = self.link().await?;
        let had: i64 = match link.flavor {
            Flavor::Yggdrasil => {
                let command = cmd("YGG.GIVEBACK").arg(key).arg(holder).to_owned();
                self.run_on(&link, &command).await?
            }
            Flavor::Redis | Flavor::Valkey => {
                self.script(&link, &SCRIPTS.give_back, &[key], &[holder])
                    .await?
            }
        };
        Ok(had == 1)
    }

    async fn ping(&self) -> Result<()> {
        let link = self.link().await?;
        let answer = link.connection.clone().any(&cmd("PING")).await;
        let _: String = self.answered(&link, answer).await?;
        Ok(())
    }

    async fn watch(&self, prefix: &[u8]) -> Result<Watch> {
        self.watch_keys(prefix).await
    }

    fn usual_limit(&self) -> Limit {
        self.0.usual_limit
    }
}
