//! Token buckets, leases and limited places.

use std::time::Duration;

use yggdrasil::{
    Acquired, Condition, Decision, Entry, Leased, Lifetime, Limit, Outcome, Policy, Together,
    Written,
};

use super::{Call, Done, expiry, string};
use crate::failure::Failure;

/// `CL.THROTTLE key max_burst count period [quantity]`, as in redis-cell: whether it is limited, the
/// limit, what is left, seconds until a retry makes sense or -1, seconds until all is back.
pub(super) fn cl_throttle(call: &mut Call<'_, '_>) -> Done {
    let key = call.arg(1)?;
    let (burst, count, period) = (call.integer(2)?, call.integer(3)?, call.integer(4)?);
    let cost = match call.args.len() {
        5 => 1,
        6 => call.integer(5)?,
        _ => return Err(Failure::arity(call.command.name)),
    };
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let invalid = Failure::new("ERR max_burst, count, period or quantity is out of range");
    let burst = u32::try_from(burst)
        .ok()
        .and_then(|burst| burst.checked_add(1));
    let (Some(burst), Some(count), Some(period), Ok(cost)) = (
        burst,
        positive(count),
        positive(period),
        u32::try_from(cost),
    ) else {
        return Err(invalid);
    };
    let limit = Limit::per(count, Duration::from_secs(period), burst)
        .map_err(|error| Failure::with(format!("ERR {error}")))?;
    let decision = call
        .shared
        .buckets
        .try_consume(key, &limit, cost, call.now.ns);
    // A whole second more would be enough for any fraction.
    let seconds = |ns: u64| ns.div_ceil(1_000_000_000) as i64;
    call.out.array(5);
    call.out.integer(i64::from(!decision.is_allowed()));
    call.out.integer(i64::from(burst));
    call.out.integer(i64::from(decision.remaining));
    call.out.integer(match decision.outcome {
        Outcome::Denied => seconds(decision.retry_after_ns),
        Outcome::Allowed | Outcome::Never => -1,
    });
    call.out.integer(seconds(decision.reset_after_ns));
    Ok(())
}

/// `YGG.CONSUME key emission_ns burst cost`: allowed 0, denied 1, never 2; tokens left; nanoseconds
/// until a retry makes sense; nanoseconds until all is back.
pub(super) fn consume(call: &mut Call<'_, '_>) -> Done {
    let key = call.arg(1)?;
    let (limit, cost) = (limit(call, 2)?, short(call, 4)?);
    let decision = call
        .shared
        .buckets
        .try_consume(key, &limit, cost, call.now.ns);
    write(call, &decision);
    Ok(())
}

/// `YGG.CONSUMEMANY ALL|EACH (key emission_ns burst cost)...`: what `YGG.CONSUME` answers for each; with
/// `ALL` up to the first that is not allowed, after which nothing was taken.
pub(super) fn consume_many(call: &mut Call<'_, '_>) -> Done {
    let together = match () {
        () if call.is(1, "ALL") => Together::AllOrNothing,
        () if call.is(1, "EACH") => Together::Each,
        () => return Err(Failure::SYNTAX),
    };
    if !(call.args.len() - 2).is_multiple_of(4) {
        return Err(Failure::arity(call.command.name));
    }
    let ask = |index| {
        let (limit, cost) = (limit(call, index + 1)?, short(call, index + 3)?);
        Ok((call.arg(index)?, limit, cost))
    };
    let asks: Result<Vec<_>, Failure> = (2..call.args.len()).step_by(4).map(ask).collect();
    let buckets = &call.shared.buckets;
    let decisions = buckets.try_consume_many(&asks?, together, call.now.ns);
    call.out.array(decisions.len());
    for decision in &decisions {
        write(call, decision);
    }
    Ok(())
}

/// The limit of an emission in nanoseconds and a burst behind it.
pub(super) fn limit(call: &Call<'_, '_>, index: usize) -> Result<Limit, Failure> {
    let emission_ns = u64::try_from(call.integer(index)?).map_err(|_| Failure::NOT_AN_INTEGER)?;
    let limit = Limit::new(emission_ns, short(call, index + 1)?);
    limit.map_err(|error| Failure::with(format!("ERR {error}")))
}

pub(super) fn short(call: &Call<'_, '_>, index: usize) -> Result<u32, Failure> {
    u32::try_from(call.integer(index)?).map_err(|_| Failure::NOT_AN_INTEGER)
}

pub(super) fn write(call: &mut Call<'_, '_>, decision: &Decision) {
    call.out.array(4);
    call.out.integer(match decision.outcome {
        Outcome::Allowed => 0,
        Outcome::Denied => 1,
        Outcome::Never => 2,
    });
    call.out.integer(i64::from(decision.remaining));
    call.out.integer(decision.retry_after_ns as i64);
    call.out.integer(decision.reset_after_ns as i64);
}

/// `YGG.REFILL key`: 1 where there was a bucket that was not full, of the key itself or under its
/// policy.
pub(super) fn refill(call: &mut Call<'_, '_>) -> Done {
    let (key, shared) = (call.arg(1)?, call.shared);
    let reset_by = |policy: &Policy| shared.buckets.reset_by(policy, key);
    let had = [
        shared.buckets.reset(key),
        shared.policies.with(key, reset_by).unwrap_or(false),
    ];
    call.out.integer(i64::from(had.contains(&true)));
    Ok(())
}

/// `YGG.LEASE key holder milliseconds`: 1 and the fencing number, or 0 and the milliseconds that it
/// is taken for at most.
pub(super) fn lease(call: &mut Call<'_, '_>) -> Done {
    let (key, holder, now_ms) = (call.key(1)?, call.arg(2)?, call.now_ms());
    let until_ms = expiry::from_now(call, 3, expiry::Unit::Milliseconds)?;
    let leased = call.keys.shard(key).lease(key, holder, until_ms, now_ms)?;
    call.out.array(2);
    let (held, value) = match leased {
        Leased::Held { fence } => (1, fence),
        Leased::Taken { until_ms } => (0, until_ms.saturating_sub(now_ms)),
    };
    call.out.integer(held);
    call.out.integer(value as i64);
    Ok(())
}

/// `YGG.RENEW key fence milliseconds`: 1 where it was still held.
pub(super) fn renew(call: &mut Call<'_, '_>) -> Done {
    let (key, fence, now_ms) = (call.key(1)?, fence(call)?, call.now_ms());
    let until_ms = expiry::from_now(call, 3, expiry::Unit::Milliseconds)?;
    let done = call.keys.shard(key).renew(key, fence, until_ms, now_ms)?;
    call.out.integer(i64::from(done));
    Ok(())
}

/// `YGG.RELEASE key fence`: 1 where it was still held.
pub(super) fn release(call: &mut Call<'_, '_>) -> Done {
    let (key, fence, now_ms) = (call.key(1)?, fence(call)?, call.now_ms());
    let done = call.keys.shard(key).release(key, fence, now_ms)?;
    call.out.integer(i64::from(done));
    Ok(())
}

fn fence(call: &Call<'_, '_>) -> Result<u64, Failure> {
    u64::try_from(call.integer(2)?).map_err(|_| Failure::NOT_AN_INTEGER)
}

/// `YGG.ACQUIRE key holder places milliseconds`: 1 and how many are held, or 0 and the milliseconds
/// until the first is given back at the latest.
pub(super) fn acquire(call: &mut Call<'_, '_>) -> Done {
    let (key, holder, now_ms) = (call.key(1)?, call.arg(2)?, call.now_ms());
    let places = u32::try_from(call.integer(3)?).map_err(|_| Failure::NOT_AN_INTEGER)?;
    let until_ms = expiry::from_now(call, 4, expiry::Unit::Milliseconds)?;
    let mut shard = call.keys.shard(key);
    let acquired = shard.acquire(key, holder, places, until_ms, now_ms)?;
    drop(shard);
    call.out.array(2);
    let (held, value) = match acquired {
        Acquired::Held { held } => (1, u64::from(held)),
        Acquired::Full { until_ms } => (0, until_ms.saturating_sub(now_ms)),
    };
    call.out.integer(held);
    // Without any place nothing is ever given back.
    call.out.integer(i64::try_from(value).unwrap_or(-1));
    Ok(())
}

/// `YGG.GIVEBACK key holder`: 1 where the holder had a place.
pub(super) fn give_back(call: &mut Call<'_, '_>) -> Done {
    let (key, holder, now_ms) = (call.key(1)?, call.arg(2)?, call.now_ms());
    let had = call.keys.shard(key).give_back(key, holder, now_ms)?;
    call.out.integer(i64::from(had));
    Ok(())
}

/// `YGG.GETV key`: the value and its version, or nothing.
pub(super) fn get_version(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    match call.keys.shard(key).get(key, now_ms) {
        None => call.out.null_array(),
        Some(entry) => {
            call.out.array(2);
            string::write(&mut call.out, entry.value())?;
            call.out.integer(entry.version() as i64);
        }
    }
    Ok(())
}

/// `YGG.SETV key value version [EX|PX|EXAT|PXAT n|KEEPTTL]`: sets where the key has that version, 0
/// being that there is none; 1 and the new version, or 0 and the one that is there.
pub(super) fn set_version(call: &mut Call<'_, '_>) -> Done {
    let (key, value, now_ms) = (call.key(1)?, call.arg(2)?, call.now_ms());
    let condition = match u64::try_from(call.integer(3)?) {
        Ok(0) => Condition::Absent,
        Ok(version) => Condition::Version(version),
        Err(_) => return Err(Failure::NOT_AN_INTEGER),
    };
    let lifetime = match call.args.len() {
        4 => Lifetime::Unlimited,
        len => match expiry::option(call, 4)? {
            (lifetime, used) if used + 4 == len => lifetime,
            _ => return Err(Failure::SYNTAX),
        },
    };
    let mut shard = call.keys.shard(key);
    let written = shard.set(key, value, lifetime, condition, now_ms)?;
    drop(shard);
    write_written(call, written);
    Ok(())
}

/// `YGG.DELV key version`: removes where the key has that version; 1, or 0 and the one that is there.
pub(super) fn delete_version(call: &mut Call<'_, '_>) -> Done {
    let (key, version, now_ms) = (call.key(1)?, fence(call)?, call.now_ms());
    let mut shard = call.keys.shard(key);
    let removed = shard.remove(key, Condition::Version(version), now_ms);
    let written = match removed {
        Some(_) => Written::Done(0),
        None => Written::Refused(shard.peek(key, now_ms).map(Entry::version)),
    };
    drop(shard);
    write_written(call, written);
    Ok(())
}

fn write_written(call: &mut Call<'_, '_>, written: Written) {
    let (done, version) = match written {
        Written::Done(version) => (1, version),
        Written::Refused(version) => (0, version.unwrap_or(0)),
    };
    call.out.array(2);
    call.out.integer(done);
    call.out.integer(version as i64);
}
