//! What a command answers when it does nothing.

use std::borrow::Cow;

use yggdrasil::KeyError;

/// An error as clients know it: a code, then words. The words are those of Redis where it has some,
/// because programs look for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(Cow<'static, str>);

impl Failure {
    pub(crate) const SYNTAX: Self = Self::new("ERR syntax error");
    pub(crate) const NOT_AN_INTEGER: Self =
        Self::new("ERR value is not an integer or out of range");
    pub(crate) const NOT_A_FLOAT: Self = Self::new("ERR value is not a valid float");
    pub(crate) const WRONG_TYPE: Self =
        Self::new("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub(crate) const NO_AUTH: Self = Self::new("NOAUTH Authentication required.");
    pub(crate) const WRONG_PASSWORD: Self =
        Self::new("WRONGPASS invalid username-password pair or user is disabled.");
    pub(crate) const OFFSET: Self = Self::new("ERR offset is out of range");
    pub(crate) const TOO_LONG: Self =
        Self::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

    pub(crate) const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    pub(crate) fn with(text: String) -> Self {
        Self(Cow::Owned(text))
    }

    pub(crate) fn arity(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        Self::with(format!(
            "ERR wrong number of arguments for '{name}' command"
        ))
    }

    pub(crate) fn expire(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        Self::with(format!("ERR invalid expire time in '{name}' command"))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::WrongType => Self::WRONG_TYPE,
            KeyError::NotAnInteger => Self::NOT_AN_INTEGER,
            KeyError::Overflow => Self::new("ERR increment or decrement would overflow"),
            KeyError::Full => Self::new("OOM command not allowed when used memory > 'maxmemory'."),
            KeyError::ValueTooLong(_) => Self::TOO_LONG,
            other => Self::with(format!("ERR {other}")),
        }
    }
}
