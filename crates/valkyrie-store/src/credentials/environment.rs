//! The variables that sources are looked up in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// The variables that sources are looked up in: those of the process, or some that are given.
#[derive(Clone, Default)]
pub struct Environment(Option<Arc<BTreeMap<String, SecretString>>>);

impl Environment {
    /// Those of the process, as they are when they are asked for.
    #[must_use]
    pub fn process() -> Self {
        Self::default()
    }

    /// These and no others.
    #[must_use]
    pub fn of<K: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables
            .into_iter()
            .map(|(name, value)| (name.into(), SecretString::from(value.into())));
        Self(Some(Arc::new(variables.collect())))
    }

    /// A variable; one that is not text counts as none.
    pub(crate) fn variable(&self, name: &str) -> Option<SecretString> {
        match &self.0 {
            Some(variables) => variables.get(name).cloned(),
            None => std::env::var(name).ok().map(SecretString::from),
        }
    }

    /// A variable that is no secret.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = self.variable(name)?;
        Some(value.expose_secret().to_owned())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(variables) => f.debug_set().entries(variables.keys()).finish(),
            None => f.write_str("Environment(process)"),
        }
    }
}
