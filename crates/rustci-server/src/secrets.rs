//! Where secret values come from. They are read at dispatch, never stored and never logged.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Prefix of environment variables that hold secrets.
pub const SECRET_ENV_PREFIX: &str = "RUSTCI_SECRET_";

/// Why secrets could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// A line of the file is not `NAME=value`. The line's text is not repeated: it may be a secret.
    #[error("{}:{line} is not NAME=value with a name of letters, digits and _", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The file system refused.
    #[error("the secrets file {} cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Secret names and values. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, String>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Places to read secrets from; a file wins over the environment.
#[derive(Debug, Clone, Default)]
pub struct SecretsSource {
    /// Lines of `NAME=value`; empty lines and lines that begin with `#` are skipped. Read again at
    /// each dispatch, so that a changed secret needs no restart.
    pub file: Option<PathBuf>,
    /// What `RUSTCI_SECRET_<NAME>` held at start.
    env: Secrets,
}

impl SecretsSource {
    /// Secrets from this process's environment, and from `file` if there is one.
    ///
    /// # Errors
    /// [`SecretsError`] when the file is not readable now.
    pub fn new(file: Option<PathBuf>) -> Result<Self, SecretsError> {
        let vars = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix(SECRET_ENV_PREFIX)?.to_owned();
            Some((name, value.into_string().ok()?))
        });
        let source = Self {
            file,
            env: Secrets(vars.collect()),
        };
        source.read()?;
        Ok(source)
    }

    /// The values of now.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn read(&self) -> Result<Secrets, SecretsError> {
        let mut secrets = self.env.clone();
        if let Some(path) = &self.file {
            secrets.0.extend(read_file(path)?);
        }
        Ok(secrets)
    }
}

impl Secrets {
    /// Looks a secret up as it stands in the pipeline file; `deploy_token` also finds
    /// `DEPLOY_TOKEN`, because environments are upper case by custom.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let exact = self.0.get(name);
        exact
            .or_else(|| self.0.get(&name.to_ascii_uppercase()))
            .map(String::as_str)
    }

    /// Adds secrets, for tests and embedding programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl From<Secrets> for SecretsSource {
    fn from(env: Secrets) -> Self {
        Self { file: None, env }
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<String, String>, SecretsError> {
    let text = fs::read_to_string(path).map_err(|source| SecretsError::Io {
        path: path.to_owned(),
        source,
    })?;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    lines
        .map(|(at, line)| {
            split(line).ok_or_else(|| SecretsError::Line {
                path: path.to_owned(),
                line: at + 1,
            })
        })
        .collect()
}

fn split(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let named = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    named.then(|| (name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        fs::write(&path, "# ours\n\nDEPLOY_TOKEN=a=b c\n").unwrap();
        let source = SecretsSource::new(Some(path.clone())).unwrap();
        assert_eq!(source.read().unwrap().get("deploy_token"), Some("a=b c"));
        fs::write(&path, "DEPLOY_TOKEN=new\n").unwrap();
        assert_eq!(source.read().unwrap().get("DEPLOY_TOKEN"), Some("new"));
    }

    #[test]
    fn an_error_names_the_line_and_not_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        fs::write(&path, "A=1\nhunter2\n").unwrap();
        let error = SecretsSource::new(Some(path)).unwrap_err().to_string();
        assert!(error.contains(":2 is not NAME=value"), "{error}");
        assert!(!error.contains("hunter2"));
    }

    #[test]
    fn values_never_show_in_debug() {
        let secrets = Secrets::default().with("A", "hunter2");
        assert_eq!(format!("{secrets:?}"), r#"{"A"}"#);
    }
}
