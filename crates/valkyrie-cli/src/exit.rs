//! The one table from results to exit codes.

use std::process::ExitCode;

use crate::failure::Failure;

/// How the program ends. The numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It worked.
    Success,
    /// It worked, and what it looked at is not well: broken rules, lost pings, a failed call.
    Failed,
    /// Wrong arguments or input.
    Invalid,
    /// The other side cannot be reached, or the system does not do its part.
    System,
    /// The other side took too long.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads the output any more.
    Unread,
}

impl Exit {
    /// The number the shell sees; the same numbers mean the same in `rustci`.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Invalid => 2,
            Self::System => 5,
            Self::TimedOut => 7,
            Self::Interrupted => 130,
            // What a shell says of a program that SIGPIPE ended.
            Self::Unread => 141,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl From<&Failure> for Exit {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Usage { .. } | Failure::Endpoint(_) | Failure::Input { .. } => Self::Invalid,
            Failure::Refused { .. } => Self::Failed,
            Failure::TimedOut { .. } => Self::TimedOut,
            Failure::OutputClosed => Self::Unread,
            Failure::Connect { .. }
            | Failure::Listen(_)
            | Failure::Lost { .. }
            | Failure::Io { .. } => Self::System,
        }
    }
}
