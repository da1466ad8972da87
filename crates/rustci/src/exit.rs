//! The one table from results to exit codes.

use std::process::ExitCode;

use crate::api::view::Conclusion;
use crate::failure::Failure;

/// How the program ends. The numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It worked; the run succeeded.
    Success,
    /// The run failed.
    Failed,
    /// Wrong arguments, or a pipeline file with errors.
    Invalid,
    /// The run was canceled or killed.
    Canceled,
    /// The server does not know the token.
    Auth,
    /// RustCI or its surroundings failed, not the pipeline.
    System,
    /// The run waits for somebody or was declined.
    Blocked,
    /// The run took too long.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads the output any more.
    Unread,
}

impl Exit {
    /// The number the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Invalid => 2,
            Self::Canceled => 3,
            Self::Auth => 4,
            Self::System => 5,
            Self::Blocked => 6,
            Self::TimedOut => 7,
            Self::Interrupted => 130,
            // What a shell says of a program that SIGPIPE ended, as it ends git.
            Self::Unread => 141,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<Conclusion> for Exit {
    fn from(conclusion: Conclusion) -> Self {
        match conclusion {
            Conclusion::Success | Conclusion::Skipped => Self::Success,
            Conclusion::Failure => Self::Failed,
            Conclusion::Error => Self::System,
            Conclusion::Killed | Conclusion::Canceled => Self::Canceled,
            Conclusion::Blocked | Conclusion::Declined => Self::Blocked,
            Conclusion::TimedOut => Self::TimedOut,
        }
    }
}

impl From<&Failure> for Exit {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::PathMissing { .. }
            | Failure::NoPipeline { .. }
            | Failure::FileMissing { .. }
            | Failure::InvalidFiles { .. }
            | Failure::WarningsDenied { .. }
            | Failure::Usage { .. }
            | Failure::UnknownRun { .. }
            | Failure::NoRuns { .. }
            | Failure::UnknownJob { .. }
            | Failure::Refused { .. } => Self::Invalid,
            Failure::Unauthorized { .. } => Self::Auth,
            Failure::Abandoned => Self::Interrupted,
            Failure::OutputClosed => Self::Unread,
            Failure::Unreachable { .. }
            | Failure::Interrupted { .. }
            | Failure::BadAnswer { .. }
            | Failure::ServerError { .. }
            | Failure::Io { .. }
            | Failure::DataDir { .. }
            | Failure::Engine { .. } => Self::System,
        }
    }
}
