//! Which attempt of which job under which lease.

use std::collections::BTreeMap;
use std::fmt;

use rustci_pipeline::v1::HeldAttempt;
use valkyrie::v2;

/// One lease of one job: the key on every job message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token {
    job: u64,
    number: u32,
    fence: u64,
}

impl Token {
    /// The metadata of streams that are about this attempt.
    pub(crate) fn metadata(self) -> BTreeMap<String, Vec<u8>> {
        let number = u64::from(self.number);
        [
            ("job", self.job),
            ("attempt", number),
            ("fence", self.fence),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_be_bytes().to_vec()))
        .into()
    }
}

impl From<v2::Attempt> for Token {
    fn from(attempt: v2::Attempt) -> Self {
        Self {
            job: attempt.job,
            number: attempt.number,
            fence: attempt.fence,
        }
    }
}

impl From<Token> for v2::Attempt {
    fn from(token: Token) -> Self {
        Self {
            job: token.job,
            number: token.number,
            fence: token.fence,
        }
    }
}

impl From<&HeldAttempt> for Token {
    fn from(held: &HeldAttempt) -> Self {
        Self {
            job: held.job,
            number: held.number,
            fence: held.fence,
        }
    }
}

impl From<Token> for HeldAttempt {
    fn from(token: Token) -> Self {
        Self {
            job: token.job,
            number: token.number,
            fence: token.fence,
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} (fence {})", self.job, self.number, self.fence)
    }
}
