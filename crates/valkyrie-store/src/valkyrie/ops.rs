//! The operations, as calls.

use std::time::Duration;

use bytes::Bytes;
use yggdrasil::{Beyond, Decision, Limit, Outcome, Together, Transacted};
use yggdrasil_calls::v1;

use super::ValkyrieStore;
use crate::adapter::{
    Acquired, Caps, Condition, Increment, Leased, Lifetime, Page, StoreAdapter, TokenRequest,
    Value, Written,
};
use crate::duration::ms;
use crate::error::StoreError;
use crate::transaction::{Action, STEPS_MAX, Step, Transaction};
use crate::watch::Watch;

type Result<T> = std::result::Result<T, StoreError>;

/// Bytes of the names of keys in one message.
const NAME_BYTES_MAX: usize = 512 << 10;

fn consume_request(key: &[u8], limit: &Limit, cost: u32) -> v1::ConsumeRequest {
    v1::ConsumeRequest {
        key: key.to_vec(),
        emission_ns: limit.emission_ns(),
        burst: limit.burst(),
        cost,
    }
}

fn decision(decision: &v1::Decision) -> Decision {
    Decision {
        outcome: match decision.outcome() {
            v1::Outcome::Allowed => Outcome::Allowed,
            v1::Outcome::Denied => Outcome::Denied,
            v1::Outcome::Never => Outcome::Never,
        },
        remaining: decision.remaining,
        retry_after_ns: decision.retry_after_ns,
        reset_after_ns: decision.reset_after_ns,
    }
}

fn lifetime(lifetime: Lifetime) -> Option<v1::Lifetime> {
    use v1::lifetime::Kind;
    let kind = match lifetime {
        Lifetime::Unlimited => return None,
        Lifetime::Keep => Kind::Keep(v1::Nothing {}),
        Lifetime::For(ttl) => Kind::ForMs(ms(ttl)),
    };
    Some(v1::Lifetime { kind: Some(kind) })
}

fn condition(condition: Condition<'_>) -> Option<v1::Condition> {
    use v1::condition::Kind;
    let kind = match condition {
        Condition::Always => return None,
        Condition::Absent => Kind::Absent(v1::Nothing {}),
        Condition::Present => Kind::Present(v1::Nothing {}),
        Condition::Equals(bytes) => Kind::Equals(bytes.to_vec()),
        Condition::Version(version) => Kind::Version(version),
    };
    Some(v1::Condition { kind: Some(kind) })
}

fn value(found: v1::Found) -> Option<Value> {
    found.value.map(|bytes| Value {
        bytes: bytes.into(),
        version: Some(found.version),
    })
}

fn step(step: &Step<'_>) -> v1::Step {
    use v1::step::Action as Kind;
    let action = match step.action {
        Action::Check(when) => Kind::Check(condition(when).unwrap_or_default()),
        Action::Set(value, stays) => Kind::Set(v1::SetAction {
            value: value.to_vec(),
            lifetime: lifetime(stays),
        }),
        Action::Remove => Kind::Remove(v1::Nothing {}),
        Action::Add(by) => Kind::Add(by),
    };
    v1::Step {
        key: step.key.to_vec(),
        action: Some(action),
    }
}

fn key(key: &[u8]) -> v1::Key {
    v1::Key { key: key.to_vec() }
}

impl StoreAdapter for ValkyrieStore {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn caps(&self) -> Caps {
        Caps {
            versions: true,
            nanoseconds: true,
            shared: true,
            encoded: false,
            watch: true,
        }
    }

    async fn read(&self, name: &[u8]) -> Result<Option<Value>> {
        let found: v1::Found = self.call("yggdrasil.v1.Keys/Get", &key(name)).await?;
        Ok(value(found))
    }

    async fn read_many(&self, names: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        let mut all = Vec::with_capacity(names.len());
        // As many as go into a message, and then the others.
        while let Some(rest) = names.get(all.len()..).filter(|rest| !rest.is_empty()) {
            let mut bytes = 0;
            let fits = |name: &&&[u8]| {
                bytes += name.len();
                bytes <= NAME_BYTES_MAX
            };
            let keys = rest.iter().take(STEPS_MAX).take_while(fits);
            let request = v1::GetManyRequest {
                keys: keys.map(|name| name.to_vec()).collect(),
            };
            let answer: v1::FoundMany = self.call("yggdrasil.v1.Keys/GetMany", &request).await?;
            if answer.found.is_empty() || answer.found.len() > request.keys.len() {
                return Err(self.unread());
            }
            all.extend(answer.found.into_iter().map(value));
        }
        Ok(all)
    }

    async fn write(
        &self,
        key: &[u8],
        value: &[u8],
        stays: Lifetime,
        when: Condition<'_>,
    ) -> Result<Written> {
        let request = v1::SetRequest {
            key: key.to_vec(),
            value: value.to_vec(),
            lifetime: lifetime(stays),
            condition: condition(when),
        };
        let written: v1::Written = self.call("yggdrasil.v1.Keys/Set", &request).await?;
        Ok(match written.version {
            Some(version) => Written::Done(Some(version)),
            None => Written::Refused,
        })
    }

    async fn remove(&self, key: &[u8], when: Condition<'_>) -> Result<bool> {
        let request = v1::RemoveRequest {
            key: key.to_vec(),
            condition: condition(when),
        };
        let done: v1::Done = self.call("yggdrasil.v1.Keys/Remove", &request).await?;
        Ok(done.done)
    }

    async fn set_lifetime(&self, key: &[u8], stays: Lifetime) -> Result<bool> {
        let request = v1::ExpireRequest {
            key: key.to_vec(),
            lifetime: lifetime(stays),
        };
        let done: v1::Done = self.call("yggdrasil.v1.Keys/Expire", &request).await?;
        Ok(done.done)
    }

    async fn lifetime(&self, name: &[u8]) -> Result<Option<Option<Duration>>> {
        let stay: v1::Stay = self.call("yggdrasil.v1.Keys/Ttl", &key(name)).await?;
        Ok(stay.found.then(|| stay.left_ms.map(Duration::from_millis)))
    }

    async fn scan(&self, prefix: &[u8], from: Option<u64>) -> Result<Page> {
        let request = v1::ScanRequest {
            prefix: prefix.to_vec(),
            from: from.unwrap_or(0),
            count: 0,
        };
        let page: v1::Page = self.call("yggdrasil.v1.Keys/Scan", &request).await?;
        Ok(Page {
            keys: page.keys.into_iter().map(Bytes::from).collect(),
            next: (page.next != 0).then_some(page.next),
        })
    }

    async fn add(&self, key: &[u8], increment: &Increment) -> Result<(i64, i64)> {
        let request = v1::AddRequest {
            key: key.to_vec(),
            by: increment.by,
            min: increment.bounds.map(|(min, _)| min),
            max: increment.bounds.map(|(_, max)| max),
            saturate: increment.beyond == Beyond::Saturate,
            ttl_ms: increment.ttl.map(ms),
        };
        let sum: v1::Sum = self.call("yggdrasil.v1.Keys/Add", &request).await?;
        Ok((sum.value, sum.applied))
    }

    async fn consume(&self, key: &[u8], limit: &Limit, cost: u32) -> Result<Decision> {
        let request = consume_request(key, limit, cost);
        let answer: v1::Decision = self.call("yggdrasil.v1.Keys/Consume", &request).await?;
        Ok(decision(&answer))
    }

    async fn consume_many(
        &self,
        requests: &[TokenRequest<'_>],
        together: Together,
    ) -> Result<Vec<Decision>> {
        let requests = requests.iter();
        let request = v1::ConsumeManyRequest {
            requests: requests
                .map(|it| consume_request(it.key, &it.limit, it.cost))
                .collect(),
            all_or_nothing: together == Together::AllOrNothing,
        };
        let answer: v1::Decisions = self.call("yggdrasil.v1.Keys/ConsumeMany", &request).await?;
        Ok(answer.decisions.iter().map(decision).collect())
    }

    async fn transact(&self, transaction: &Transaction<'_>) -> Result<Transacted> {
        transaction.is_sound(self.name())?;
        let request = v1::TransactRequest {
            steps: transaction.steps().iter().map(step).collect(),
        };
        let answer: v1::Transacted = self.call("yggdrasil.v1.Keys/Transact", &request).await?;
        Ok(match answer.refused {
            None => Transacted::Done(answer.sums),
            Some(index) => Transacted::Refused(index as usize),
        })
    }

    async fn lease(&self, key: &[u8], holder: &[u8], ttl: Duration) -> Result<Leased> {
        let request = v1::LeaseRequest {
            key: key.to_vec(),
            holder: holder.to_vec(),
            ttl_ms: ms(ttl),
        };
        let leased: v1::Leased = self.call("yggdrasil.v1.Keys/Lease", &request).await?;
        Ok(match leased.fence {
            Some(fence) => Leased::Held { fence },
            None => Leased::Taken {
                for_at_most: Duration::from_millis(leased.taken_ms),
            },
        })
    }

    async fn renew(&self, key: &[u8], fence: u64, ttl: Duration) -> Result<bool> {
        let request = v1::RenewRequest {
            key: key.to_vec(),
            fence,
            ttl_ms: ms(ttl),
        };
        let done: v1::Done = self.call("yggdrasil.v1.Keys/Renew", &request).await?;
        Ok(done.done)
    }

    async fn release(&self, key: &[u8], fence: u64) -> Result<bool> {
        let request = v1::ReleaseRequest {
            key: key.to_vec(),
            fence,
        };
        let done: v1::Done = self.call("yggdrasil.v1.Keys/Release", &request).await?;
        Ok(done.done)
    }

    async fn acquire(
        &self,
        key: &[u8],
        holder: &[u8],
        places: u32,
        ttl: Duration,
    ) -> Result<Acquired> {
        let request = v1::AcquireRequest {
            key: key.to_vec(),
            holder: holder.to_vec(),
            places,
            ttl_ms: ms(ttl),
        };
        let acquired: v1::Acquired = self.call("yggdrasil.v1.Keys/Acquire", &request).await?;
        Ok(match acquired.held {
            Some(held) => Acquired::Held { held },
            None => Acquired::Full {
                retry_after: acquired.retry_after_ms.map(Duration::from_millis),
            },
        })
    }

    async fn give_back(&self, key: &[u8], holder: &[u8]) -> Result<bool> {
        let request = v1::GiveBackRequest {
            key: key.to_vec(),
            holder: holder.to_vec(),
        };
        let done: v1::Done = self.call("yggdrasil.v1.Keys/GiveBack", &request).await?;
        Ok(done.done)
    }

    async fn ping(&self) -> Result<()> {
        let _: v1::Nothing = self.call("yggdrasil.v1.Keys/Ping", &v1::Nothing {}).await?;
        Ok(())
    }

    async fn watch(&self, prefix: &[u8]) -> Result<Watch> {
        self.watch_keys(prefix).await
    }

    fn usual_limit(&self) -> Limit {
        self.0.usual_limit
    }
}
