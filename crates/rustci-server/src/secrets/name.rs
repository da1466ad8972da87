//! What secrets are called and for whom they are.

use std::fmt;

use crate::limits::{NAME_CHARS_MAX, SECRET_NAME_BYTES_MAX};
use crate::secrets::SecretsError;

/// The name of a secret: what a pipeline file may write in `secrets`. Letters, digits, `_` and
/// `-`, at most 100 bytes, beginning with a letter or `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

impl SecretName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`SecretsError::Name`].
    pub fn new(name: &str) -> Result<Self, SecretsError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let begins = name
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
        if !begins || name.len() > SECRET_NAME_BYTES_MAX || !name.bytes().all(good) {
            return Err(SecretsError::Name(format!(
                "a secret's name has 1 to {SECRET_NAME_BYTES_MAX} letters, digits, _ and -, and \
                 begins with a letter or _"
            )));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who may have a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every project.
    Global,
    /// One project. Its own value wins over the global one of the same name.
    Project(String),
}

impl Scope {
    /// The scope of a project, or the global one.
    ///
    /// # Errors
    /// [`SecretsError::Name`] for a name that no project has.
    pub fn of(project: Option<&str>) -> Result<Self, SecretsError> {
        match project {
            None => Ok(Self::Global),
            Some(name)
                if name.is_empty()
                    || name.chars().count() > NAME_CHARS_MAX
                    || name.chars().any(char::is_control) =>
            {
                Err(SecretsError::Name(format!(
                    "a project's name has 1 to {NAME_CHARS_MAX} characters and no control characters"
                )))
            }
            Some(name) => Ok(Self::Project(name.to_owned())),
        }
    }

    /// The project, if it is one.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        match self {
            Self::Global => None,
            Self::Project(name) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_a_pipeline_file_can_write() {
        for good in ["A", "deploy_token", "_x", "npm-token", "K9"] {
            assert!(SecretName::new(good).is_ok(), "{good}");
        }
        let long = "x".repeat(101);
        for bad in ["", "9a", "-a", "a b", "a/b", "../x", "é", "a\n", &long] {
            assert!(SecretName::new(bad).is_err(), "{bad:?}");
        }
    }
}
