//! Checks of a server, a data directory, and this machine.

pub(crate) mod data;
pub(crate) mod machine;
pub(crate) mod remote;

use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works; something deserves a look.
    Warn,
    /// It does not work.
    Fail,
}

/// One finding. The names are part of the interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was checked: `token`, `disk`, ...
    pub(crate) id: &'static str,
    /// How it came out.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl Check {
    /// All is well.
    pub(crate) fn ok(id: &'static str, message: impl Into<String>) -> Self {
        Self {
            id,
            level: Level::Ok,
            message: message.into(),
            hint: None,
        }
    }

    /// Something deserves a look.
    pub(crate) fn warn(
        id: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            id,
            level: Level::Warn,
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    /// Something does not work.
    pub(crate) fn fail(
        id: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            level: Level::Fail,
            ..Self::warn(id, message, hint)
        }
    }
}

/// The worst of all.
pub(crate) fn worst(checks: &[Check]) -> Level {
    let levels = checks.iter().map(|check| check.level);
    levels.max().unwrap_or(Level::Ok)
}
