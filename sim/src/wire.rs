//! What runner and control plane say to each other, as the product's own messages.

use std::collections::BTreeMap;

use rustci_pipeline::v1::HeldAttempt;
use rustci_scheduler::{AttemptToken, Fence, JobId, record::Conclusion};
use valkyrie_frame::v2;

pub(crate) const REGISTER: &str = "rustci.v1.Runner/Register";
pub(crate) const RESUME: &str = "rustci.v1.Job/Resume";
pub(crate) const APPEND: &str = "rustci.v1.Log/Append";

/// A token as Valkyrie's job messages carry it.
pub(crate) fn attempt(token: AttemptToken) -> v2::Attempt {
    v2::Attempt {
        job: token.job.0,
        number: token.attempt,
        fence: token.fence.0,
    }
}

/// The token in a job message; `None` when it has none.
pub(crate) fn token(attempt: Option<v2::Attempt>) -> Option<AttemptToken> {
    let v2::Attempt { job, number, fence } = attempt?;
    Some(AttemptToken {
        job: JobId(job),
        attempt: number,
        fence: Fence(fence),
    })
}

/// A token as registrations carry it.
pub(crate) fn held(token: AttemptToken) -> HeldAttempt {
    HeldAttempt {
        job: token.job.0,
        number: token.attempt,
        fence: token.fence.0,
    }
}

/// The token in a registration.
pub(crate) fn token_of_held(held: &HeldAttempt) -> AttemptToken {
    AttemptToken {
        job: JobId(held.job),
        attempt: held.number,
        fence: Fence(held.fence),
    }
}

/// The opening of a stream that belongs to an attempt.
pub(crate) fn open(method: &str, token: AttemptToken) -> v2::StreamOpen {
    let number = |number: u64| number.to_be_bytes().to_vec();
    let metadata = [
        ("job".to_owned(), number(token.job.0)),
        ("attempt".to_owned(), number(u64::from(token.attempt))),
        ("fence".to_owned(), number(token.fence.0)),
    ];
    v2::StreamOpen {
        method: method.to_owned(),
        metadata: metadata.into(),
        window: 0,
    }
}

/// The attempt that an opened stream belongs to.
pub(crate) fn token_of_open(open: &v2::StreamOpen) -> Option<AttemptToken> {
    let metadata: BTreeMap<_, _> = open.metadata.iter().collect();
    let number = |name: &str| {
        let bytes: &[u8] = metadata.get(&name.to_owned())?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    };
    let attempt = u32::try_from(number("attempt")?).ok()?;
    Some(AttemptToken {
        job: JobId(number("job")?),
        attempt,
        fence: Fence(number("fence")?),
    })
}

/// A result as one byte: all that the simulation needs of it.
pub(crate) fn result(outcome: Conclusion) -> Vec<u8> {
    vec![u8::try_from(i32::from(outcome)).unwrap_or(0)]
}

/// What [`result`] wrote; an error when it is something else.
pub(crate) fn outcome(result: &[u8]) -> Conclusion {
    let number = result.first().copied().unwrap_or(0);
    Conclusion::try_from(i32::from(number)).unwrap_or(Conclusion::Error)
}
