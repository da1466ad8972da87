//! Where secret values come from. They are read at dispatch and never logged.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::secrets::{SecretStore, SecretsError};

/// Prefix of environment variables that hold secrets.
pub const SECRET_ENV_PREFIX: &str = "RUSTCI_SECRET_";

/// Secret names and values. `Debug` shows names only; values are wiped when dropped.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, Zeroizing<String>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Which of two places wins when both have a secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// The store: what a server was told last, through its API.
    #[default]
    StoreFirst,
    /// The file: what somebody named for this one run.
    FileFirst,
}

/// Places to read secrets from; the environment comes last.
#[derive(Debug, Clone, Default)]
pub struct SecretsSource {
    /// Lines of `NAME=value`; empty lines and lines that begin with `#` are skipped. Read again at
    /// each dispatch, so that a changed secret needs no restart.
    pub file: Option<PathBuf>,
    /// The store. A [`Server`](crate::Server) puts the one of its data directory here when there is
    /// none.
    pub store: Option<Arc<SecretStore>>,
    /// Whether store or file wins.
    pub order: Order,
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
            Some((name, Zeroizing::new(value.into_string().ok()?)))
        });
        let source = Self {
            file,
            env: Secrets(vars.collect()),
            ..Self::default()
        };
        if let Some(path) = &source.file {
            read_file(path)?;
        }
        Ok(source)
    }

    /// The same source with a store.
    #[must_use]
    pub fn with_store(self, store: Arc<SecretStore>, order: Order) -> Self {
        Self {
            store: Some(store),
            order,
            ..self
        }
    }

    /// The values of now for jobs of `project`.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn read(&self, project: &str) -> Result<Secrets, SecretsError> {
        let file = self.file.as_deref().map(read_file).transpose()?;
        let file = file.unwrap_or_default();
        let store = match &self.store {
            Some(store) => store.values(project)?.0,
            None => BTreeMap::new(),
        };
        let mut secrets = self.env.clone();
        // What is put in later wins.
        let [weak, strong] = match self.order {
            Order::StoreFirst => [file, store],
            Order::FileFirst => [store, file],
        };
        secrets.0.extend(weak);
        secrets.0.extend(strong);
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
            .map(|value| value.as_str())
    }

    /// Adds secrets, for tests and embedding programs.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.insert(name, Zeroizing::new(value.to_owned()));
        self
    }

    pub(super) fn insert(&mut self, name: &str, value: Zeroizing<String>) {
        self.0.insert(name.to_owned(), value);
    }
}

impl From<Secrets> for SecretsSource {
    fn from(env: Secrets) -> Self {
        Self {
            env,
            ..Self::default()
        }
    }
}

fn read_file(path: &Path) -> Result<BTreeMap<String, Zeroizing<String>>, SecretsError> {
    let text = fs::read_to_string(path).map_err(SecretsError::io(path))?;
    let text = Zeroizing::new(text);
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

fn split(line: &str) -> Option<(String, Zeroizing<String>)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let named = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    named.then(|| (name.to_owned(), Zeroizing::new(value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{Expected, KeyPlace, Scope, SecretName};

    #[test]
    fn a_file_is_read_again_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        fs::write(&path, "# ours\n\nDEPLOY_TOKEN=a=b c\n").unwrap();
        let source = SecretsSource::new(Some(path.clone())).unwrap();
        assert_eq!(source.read("p").unwrap().get("deploy_token"), Some("a=b c"));
        fs::write(&path, "DEPLOY_TOKEN=new\n").unwrap();
        assert_eq!(source.read("p").unwrap().get("DEPLOY_TOKEN"), Some("new"));
    }

    #[test]
    fn the_order_decides_between_store_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("file"), dir.path().join("key"));
        fs::write(&path, "A=file\n").unwrap();
        let store = SecretStore::open(&dir.path().join("store"), KeyPlace::Own(key)).unwrap();
        let name = SecretName::new("A").unwrap();
        store
            .put(Scope::Global, name, "store", (&Expected::Any, 1))
            .unwrap();
        let mut source = SecretsSource {
            store: Some(Arc::new(store)),
            ..SecretsSource::from(Secrets::default().with("A", "env").with("B", "env"))
        };
        let read = |source: &SecretsSource, name: &str| {
            source.read("p").unwrap().get(name).map(str::to_owned)
        };
        assert_eq!(read(&source, "A").as_deref(), Some("store"));
        source.file = Some(path);
        assert_eq!(read(&source, "A").as_deref(), Some("store"));
        source.order = Order::FileFirst;
        assert_eq!(read(&source, "A").as_deref(), Some("file"));
        assert_eq!(read(&source, "B").as_deref(), Some("env"));
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
