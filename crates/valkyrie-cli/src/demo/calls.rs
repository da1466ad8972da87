//! Calls of the demo services.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{AbortHandle, spawn_local};
use tokio::time::sleep;
use valkyrie::{Correlation, ErrorCode, Link};

use super::number;

/// Largest answer of `demo.Source/Get`; its stream has no limit.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longest that `demo.Clock/Wait` waits.
const WAIT_MS_MAX: u64 = 3_600_000;

/// The calls of one connection that are waiting. There are never more than the session lets the
/// peer have open.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    waiting: HashMap<Correlation, AbortHandle>,
}

impl Calls {
    /// Answers a call, now or later.
    pub(crate) fn call(&mut self, link: &Link, call: Correlation, method: &str, body: &[u8]) {
        let answer = match method {
            "demo.Echo/Say" => Ok(body.to_vec()),
            "demo.Sink/Put" => Ok(body.len().to_string().into_bytes()),
            "demo.Source/Get" => match number(body) {
                Some(count @ 0..=ANSWER_BYTES_MAX) => Ok(vec![b'.'; count as usize]),
                _ => Err("the body has to be a number of bytes, at most 16777216"),
            },
            "demo.Clock/Wait" => match number(body) {
                Some(ms @ 0..=WAIT_MS_MAX) => {
                    self.wait(link, call, Duration::from_millis(ms));
                    return;
                }
                _ => Err("the body has to be a number of milliseconds, at most 3600000"),
            },
            _ => {
                let text = format!("there is no method {method} here (R-10.8)");
                fail(link, call, ErrorCode::UNEXPECTED, &text);
                return;
            }
        };
        match answer {
            Ok(answer) => reply(link, call, &answer),
            Err(text) => fail(link, call, ErrorCode::REJECTED, text),
        }
    }

    fn wait(&mut self, link: &Link, call: Correlation, time: Duration) {
        self.waiting.retain(|_, task| !task.is_finished());
        let caller = link.clone();
        let task = spawn_local(async move {
            sleep(time).await;
            reply(
                &caller,
                call,
                format!("waited {} ms", time.as_millis()).as_bytes(),
            );
        });
        self.waiting.insert(call, task.abort_handle());
    }

    /// The caller gave up: the call ends, or it would count against its limit.
    pub(crate) fn canceled(&mut self, link: &Link, call: Correlation) {
        if let Some(task) = self.waiting.remove(&call) {
            task.abort();
            fail(link, call, ErrorCode::NONE, "canceled");
        }
    }

    /// The connection is over.
    pub(crate) fn abort(&mut self) {
        self.waiting.drain().for_each(|(_, task)| task.abort());
    }
}

/// A call that is not open any more needs no answer; one that is too large for the caller gets to
/// know.
fn reply(link: &Link, call: Correlation, answer: &[u8]) {
    let sent = link.session().reply(call, answer);
    if let Err(error) = sent {
        fail(link, call, ErrorCode::TOO_LARGE, &error.to_string());
    }
}

fn fail(link: &Link, call: Correlation, code: ErrorCode, text: &str) {
    // The call may have ended meanwhile, and then nobody waits for this.
    let _ = link.session().reply_error(call, code, text);
}
