//! Limits by key and prefix, and the buckets under them.

use yggdrasil::{Pattern, Policy};

use super::{Call, Done, limit};
use crate::failure::Failure;

/// `YGG.TAKE key [cost]`: as `YGG.CONSUME`, with the limit of the key's policy.
pub(super) fn take(call: &mut Call<'_, '_>) -> Done {
    let (key, shared, now_ns) = (call.arg(1)?, call.shared, call.now.ns);
    let cost = match call.args.len() {
        2 => 1,
        3 => limit::short(call, 2)?,
        _ => return Err(Failure::arity(call.command.name)),
    };
    let take = |policy: &Policy| shared.buckets.try_consume_by(policy, key, cost, now_ns);
    let decision = shared.policies.with(key, take).ok_or(Failure::new(
        "ERR the key has no policy; make one with YGG.POLICY SET",
    ))?;
    limit::write(call, &decision);
    Ok(())
}

/// `YGG.POLICY SET pattern name emission_ns burst`, `YGG.POLICY DEL pattern` or `YGG.POLICY LIST`. A
/// pattern is a key, or what keys begin with and `*`.
pub(super) fn policy(call: &mut Call<'_, '_>) -> Done {
    let len = call.args.len();
    match (call.arg(1)?.to_ascii_uppercase().as_slice(), len) {
        (b"SET", 6) => set(call),
        (b"DEL", 3) => {
            let removed = call.shared.policies.remove(&Pattern::parse(call.arg(2)?));
            call.out.integer(i64::from(removed));
            Ok(())
        }
        (b"LIST", 2) => {
            list(call);
            Ok(())
        }
        (b"SET" | b"DEL" | b"LIST", _) => Err(Failure::arity(call.command.name)),
        _ => Err(call.unknown_subcommand()),
    }
}

fn set(call: &mut Call<'_, '_>) -> Done {
    let name = std::str::from_utf8(call.arg(3)?);
    let name = name.map_err(|_| Failure::new("ERR the name of the policy is no text in UTF-8"))?;
    let limit = limit::limit(call, 4)?;
    let pattern = Pattern::parse(call.arg(2)?);
    let policy = Policy::new(name, limit);
    policy
        .and_then(|policy| call.shared.policies.set(pattern, policy))
        .map_err(|error| Failure::with(format!("ERR {error}")))?;
    call.out.ok();
    Ok(())
}

/// Of each its pattern, name, nanoseconds between two tokens, and burst.
fn list(call: &mut Call<'_, '_>) {
    let list = call.shared.policies.list();
    call.out.array(list.len());
    for (pattern, policy) in list {
        call.out.array(4);
        call.out.bulk(&pattern.to_bytes());
        call.out.bulk(policy.name().as_bytes());
        // A whole bucket takes at most 100 years.
        call.out.integer(policy.limit().emission_ns() as i64);
        call.out.integer(i64::from(policy.limit().burst()));
    }
}
