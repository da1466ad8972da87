//! How far a migration is, and what that means for every operation.

use serde::{Deserialize, Serialize};

/// How far a migration is.
///
/// | phase | reads | writes | the other store is written | leases and places |
/// |---|---|---|---|---|
/// | `off`, `rolled_back` | old | old | not | old |
/// | `shadow`, `backfill` | old | old | behind | old |
/// | `verify` | old | old | before an answer | old |
/// | `read_new` | new | old | before an answer | old |
/// | `drain` | new | old | before an answer | refused |
/// | `switch` | new | wait | | refused |
/// | `write_new` | new | new | before an answer | new |
/// | `drain_back` | new | new | before an answer | refused |
/// | `switch_back` | old | wait | | refused |
/// | `step_back` | old | old | before an answer | old |
/// | `done` | new | new | not | new |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// It has not begun.
    Off,
    /// Changes of the old store are repeated on the new one, soon after.
    Shadow,
    /// What the old store had before is copied.
    Backfill,
    /// Both are compared, key by key.
    Verify,
    /// The new store is read; some reads are compared with the old one.
    ReadNew,
    /// No lease is given, until those of the old store are over.
    Drain,
    /// Changes wait until nobody changes the old store any more.
    Switch,
    /// The new store decides; the old one is kept up so that there is a way back.
    WriteNew,
    /// No lease is given, until those of the new store are over.
    DrainBack,
    /// Changes wait until nobody changes the new store any more.
    SwitchBack,
    /// The new store is not read any more; it is written until nobody reads it.
    StepBack,
    /// The old store is not used any more.
    Done,
    /// The old store decides again, and the new one is not used.
    RolledBack,
}

/// One of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Old,
    New,
}

/// When the other store is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mirror {
    Not,
    /// Soon after the answer.
    Behind,
    /// Before the answer.
    Along,
}

impl Phase {
    /// All of them, in the order of a migration that goes well, and then those of the way back.
    pub const ALL: [Self; 13] = [
        Self::Off,
        Self::Shadow,
        Self::Backfill,
        Self::Verify,
        Self::ReadNew,
        Self::Drain,
        Self::Switch,
        Self::WriteNew,
        Self::Done,
        Self::DrainBack,
        Self::SwitchBack,
        Self::StepBack,
        Self::RolledBack,
    ];

    /// Its name in state, command lines and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::Backfill => "backfill",
            Self::Verify => "verify",
            Self::ReadNew => "read_new",
            Self::Drain => "drain",
            Self::Switch => "switch",
            Self::WriteNew => "write_new",
            Self::DrainBack => "drain_back",
            Self::SwitchBack => "switch_back",
            Self::StepBack => "step_back",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
        }
    }

    /// The store whose content counts, and that keeps the state of the migration.
    pub(super) const fn primary(self) -> Side {
        match self {
            Self::WriteNew | Self::DrainBack | Self::SwitchBack | Self::Done => Side::New,
            _ => Side::Old,
        }
    }

    pub(super) const fn reads(self) -> Side {
        match self {
            Self::ReadNew | Self::Drain | Self::Switch => Side::New,
            Self::SwitchBack => Side::Old,
            other => other.primary(),
        }
    }

    pub(super) const fn mirror(self) -> Mirror {
        match self {
            Self::Off | Self::RolledBack | Self::Done => Mirror::Not,
            Self::Shadow | Self::Backfill => Mirror::Behind,
            _ => Mirror::Along,
        }
    }

    /// Whether changes wait for the next phase.
    pub(super) const fn holds_writes(self) -> bool {
        matches!(self, Self::Switch | Self::SwitchBack)
    }

    /// Whether leases and places are given and kept.
    pub(super) const fn leases(self) -> bool {
        !matches!(
            self,
            Self::Drain | Self::Switch | Self::DrainBack | Self::SwitchBack
        )
    }

    /// Whether a fault of the new store, while it is read, ends the migration by itself.
    pub(super) const fn rolls_back_by_itself(self) -> bool {
        matches!(self, Self::ReadNew | Self::Drain)
    }
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Old => Self::New,
            Self::New => Self::Old,
        }
    }
}

/// The state of a migration, as the primary store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationState {
    /// How far it is.
    pub phase: Phase,
    /// Greater with every change of the phase.
    pub revision: u64,
    /// Why it is there, where that needs to be said: the cause of a way back.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
}

impl MigrationState {
    /// Where nobody has written anything.
    pub(super) const NONE: Self = Self {
        phase: Phase::Off,
        revision: 0,
        cause: String::new(),
    };

    pub(super) fn to(&self, phase: Phase, cause: impl Into<String>) -> Self {
        Self {
            phase,
            revision: self.revision + 1,
            cause: cause.into(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_agree() {
        // Processes are in neighbouring phases for a moment, so no two of them that are next to each
        // other may let both stores be changed, or read where the other does not write before it answers.
        let way = [
            [Phase::Off, Phase::Shadow],
            [Phase::Shadow, Phase::Backfill],
            [Phase::Backfill, Phase::Verify],
            [Phase::Verify, Phase::ReadNew],
            [Phase::ReadNew, Phase::Drain],
            [Phase::ReadNew, Phase::StepBack],
            [Phase::Drain, Phase::StepBack],
            [Phase::Switch, Phase::StepBack],
            [Phase::StepBack, Phase::RolledBack],
            [Phase::Drain, Phase::Switch],
            [Phase::Switch, Phase::WriteNew],
            [Phase::WriteNew, Phase::DrainBack],
            [Phase::DrainBack, Phase::SwitchBack],
            [Phase::SwitchBack, Phase::StepBack],
            [Phase::WriteNew, Phase::Done],
        ];
        for [from, to] in way {
            let changes = |phase: Phase| (!phase.holds_writes()).then(|| phase.primary());
            if let (Some(from), Some(to)) = (changes(from), changes(to)) {
                assert_eq!(from, to, "{from:?} {to:?}");
            }
            for (reader, writer) in [(from, to), (to, from)] {
                let stale = reader.reads() != writer.primary()
                    && writer.mirror() != Mirror::Along
                    && !writer.holds_writes();
                assert!(!stale, "{reader:?} reads what {writer:?} does not write");
            }
            let leases = |phase: Phase| phase.leases().then(|| phase.primary());
            if let (Some(from), Some(to)) = (leases(from), leases(to)) {
                assert_eq!(from, to, "{from:?} {to:?}");
            }
        }
    }

    #[test]
    fn state_is_read_as_it_was_written() {
        for phase in Phase::ALL {
            let state = MigrationState::NONE.to(phase, "because");
            assert_eq!(MigrationState::decode(&state.encode()), Some(state.clone()));
            let text = String::from_utf8(state.encode()).unwrap();
            assert!(text.contains(phase.name()), "{text}");
        }
        assert_eq!(MigrationState::decode(b"{}"), None);
    }
}
