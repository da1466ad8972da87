//! What messages mean.

use valkyrie::{Retry, Status};
use yggdrasil::{Decision, Entry, KeyError, Limit, Outcome};
use yggdrasil_calls::{NOT_NOW, REJECTED, UNSURE, WRONG_TYPE, v1};

use crate::clock::Moment;

/// Ends are shown as numbers with a sign.
const END_MS_MAX: u64 = i64::MAX as u64;

pub(super) fn failed(error: KeyError) -> Status {
    let code = match error {
        KeyError::WrongType => WRONG_TYPE,
        _ => REJECTED,
    };
    Status::new(code, error.to_string())
}

pub(super) fn rejected(text: impl Into<String>) -> Status {
    Status::new(REJECTED, text.into())
}

/// The disk refuses, so nothing is changed any more.
pub(super) fn not_now(error: &str) -> Status {
    let text = format!("the journal cannot be written, so changes are refused: {error}");
    Status::new(NOT_NOW, text).with_retry(Retry::After(std::time::Duration::ZERO))
}

/// The disk refused what may already have been seen.
pub(super) fn unsure() -> Status {
    Status::new(
        UNSURE,
        "the journal cannot be written; the change may be lost",
    )
}

/// When something ends that is to stay for so long.
pub(super) fn until(ms: u64, now: Moment) -> Result<u64, Status> {
    match ms {
        0 => Err(rejected("the time to stay is 0; name at least 1 ms")),
        ms => Ok(now.ms().saturating_add(ms).min(END_MS_MAX)),
    }
}

pub(super) fn lifetime(
    lifetime: Option<v1::Lifetime>,
    now: Moment,
) -> Result<yggdrasil::Lifetime, Status> {
    use v1::lifetime::Kind;
    Ok(match lifetime.and_then(|lifetime| lifetime.kind) {
        None => yggdrasil::Lifetime::Unlimited,
        Some(Kind::Keep(_)) => yggdrasil::Lifetime::Keep,
        Some(Kind::ForMs(ms)) => yggdrasil::Lifetime::Until(until(ms, now)?),
    })
}

pub(super) fn condition(condition: Option<&v1::Condition>) -> yggdrasil::Condition<'_> {
    use v1::condition::Kind;
    match condition.and_then(|condition| condition.kind.as_ref()) {
        None => yggdrasil::Condition::Always,
        Some(Kind::Absent(_)) => yggdrasil::Condition::Absent,
        Some(Kind::Present(_)) => yggdrasil::Condition::Present,
        Some(Kind::Equals(bytes)) => yggdrasil::Condition::Equals(bytes),
        Some(Kind::Version(version)) => yggdrasil::Condition::Version(*version),
    }
}

pub(super) fn step(step: &v1::Step, now: Moment) -> Result<yggdrasil::Step<'_>, Status> {
    use v1::step::Action;
    Ok(match &step.action {
        None => return Err(rejected("a step of the transaction says nothing")),
        Some(Action::Check(when)) => yggdrasil::Step::Check(condition(Some(when))),
        Some(Action::Set(set)) => yggdrasil::Step::Set(&set.value, lifetime(set.lifetime, now)?),
        Some(Action::Remove(_)) => yggdrasil::Step::Remove,
        Some(Action::Add(by)) => yggdrasil::Step::Add(*by),
    })
}

pub(super) fn limit(request: &v1::ConsumeRequest) -> Result<Limit, Status> {
    Limit::new(request.emission_ns, request.burst).map_err(|error| rejected(error.to_string()))
}

pub(super) fn decision(decision: &Decision) -> v1::Decision {
    let outcome = match decision.outcome {
        Outcome::Allowed => v1::Outcome::Allowed,
        Outcome::Denied => v1::Outcome::Denied,
        Outcome::Never => v1::Outcome::Never,
    };
    v1::Decision {
        outcome: outcome.into(),
        remaining: decision.remaining,
        retry_after_ns: decision.retry_after_ns,
        reset_after_ns: decision.reset_after_ns,
    }
}

pub(super) fn found(entry: Option<&Entry>) -> Result<v1::Found, KeyError> {
    let Some(entry) = entry else {
        return Ok(v1::Found::default());
    };
    let value = match entry.value() {
        yggdrasil::Value::Bytes(bytes) => bytes.as_slice().to_vec(),
        yggdrasil::Value::Integer(value) => value.to_string().into_bytes(),
        _ => return Err(KeyError::WrongType),
    };
    Ok(v1::Found {
        value: Some(value),
        version: entry.version(),
    })
}

pub(super) fn increment(
    request: &v1::AddRequest,
    now: Moment,
) -> Result<yggdrasil::Increment, Status> {
    let (min, max) = (
        request.min.unwrap_or(i64::MIN),
        request.max.unwrap_or(i64::MAX),
    );
    if min > max {
        return Err(rejected(format!(
            "the bounds are {min} to {max}, which is nothing"
        )));
    }
    Ok(yggdrasil::Increment {
        by: request.by,
        min,
        max,
        beyond: match request.saturate {
            true => yggdrasil::Beyond::Saturate,
            false => yggdrasil::Beyond::Refuse,
        },
        lifetime: match request.ttl_ms {
            None => yggdrasil::Lifetime::Keep,
            Some(ms) => yggdrasil::Lifetime::Until(until(ms, now)?),
        },
        end: yggdrasil::IfEnd::Leave,
    })
}
