//! What a try of a step came to, in outcomes and words.

use rustci_pipeline::v1;

use super::supervisor::{Cut, Ended, ExitStatus, StopCause};

/// What people read when the job's own limit ended something.
pub(super) const TIME_UP: &str = "the job's time was up";

/// What one try of a step came to.
pub(super) struct Tried {
    pub(super) outcome: v1::Outcome,
    pub(super) exit_code: Option<i32>,
    pub(super) message: String,
    pub(super) outputs: Vec<(String, String)>,
}

impl Tried {
    /// A try that was not even begun.
    pub(super) fn failure(message: impl ToString) -> Self {
        let message = message.to_string();
        Self {
            outcome: v1::Outcome::Failure,
            exit_code: None,
            message,
            outputs: Vec::new(),
        }
    }

    /// What the end of the process means; `stopped` is why the job has to end, if it has to.
    pub(super) fn new(step: &v1::Step, ended: Ended, stopped: Option<StopCause>) -> Self {
        let exit_code = match ended.status {
            ExitStatus::Code(code) => Some(code),
            ExitStatus::Signal(_) => None,
        };
        let (outcome, message) = match (ended.status, ended.cut) {
            (ExitStatus::Code(0), None | Some(Cut::JobStopped)) => {
                (v1::Outcome::Success, String::new())
            }
            (_, Some(Cut::OwnLimit)) => (
                v1::Outcome::TimedOut,
                format!("timed out after {}", span(step.timeout_ms)),
            ),
            (_, Some(Cut::JobStopped)) => match stopped {
                Some(StopCause::TimedOut) => (v1::Outcome::TimedOut, TIME_UP.to_owned()),
                _ => (v1::Outcome::Canceled, "canceled".to_owned()),
            },
            (ExitStatus::Code(code), None) => (v1::Outcome::Failure, exit_message(code)),
            (ExitStatus::Signal(signal), None) => (
                v1::Outcome::Killed,
                format!("killed by {}", signal_name(signal)),
            ),
        };
        Self {
            outcome,
            exit_code,
            message,
            outputs: Vec::new(),
        }
    }
}

/// Whether a step is tried again after this.
pub(super) fn is_retried(retry: &v1::Retry, tried: &Tried) -> bool {
    match tried.outcome {
        v1::Outcome::Failure | v1::Outcome::Killed | v1::Outcome::TimedOut => {
            retry.exit_codes.is_empty()
                || tried
                    .exit_code
                    .is_some_and(|code| retry.exit_codes.contains(&code))
        }
        _ => false,
    }
}

/// Shells report a program that died by a signal as 128 and the signal.
fn exit_message(code: i32) -> String {
    match code {
        127 => "exit code 127 (a command was not found)".to_owned(),
        129..=159 => format!(
            "exit code {code} (a command was killed by {})",
            signal_name(code - 128)
        ),
        _ => format!("exit code {code}"),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

fn span(ms: u64) -> String {
    match ms {
        _ if !ms.is_multiple_of(1000) => format!("{ms}ms"),
        _ if !ms.is_multiple_of(60_000) => format!("{}s", ms / 1000),
        _ => format!("{}m", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_exit_codes_are_tried_again() {
        let check = |codes: &[i32], outcome, exit_code| {
            let retry = v1::Retry {
                max: 1,
                exit_codes: codes.to_vec(),
            };
            is_retried(
                &retry,
                &Tried {
                    outcome,
                    exit_code,
                    ..Tried::failure("")
                },
            )
        };
        assert!(check(&[101], v1::Outcome::Failure, Some(101)));
        assert!(!check(&[101], v1::Outcome::Failure, Some(1)));
        assert!(check(&[], v1::Outcome::Killed, None));
        assert!(!check(&[], v1::Outcome::Canceled, None));
    }

    #[test]
    fn exit_codes_are_put_into_words() {
        assert_eq!(exit_message(2), "exit code 2");
        assert_eq!(
            exit_message(137),
            "exit code 137 (a command was killed by SIGKILL)"
        );
        assert_eq!(span(600_000), "10m");
        assert_eq!(span(1_500), "1500ms");
    }
}
