//! The servers a person uses, by name, in a file in the configuration directory.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The name that means this machine.
pub(crate) const LOCAL: &str = "local";
/// The version of the file written here.
const VERSION: u32 = 1;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 100;

/// What the file has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    version: u32,
    /// The one in use; none means this machine.
    #[serde(default)]
    pub(crate) current: Option<String>,
    /// All of them.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// One server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its URL.
    pub(crate) server: String,
    /// Its token, if one is kept.
    #[serde(default)]
    pub(crate) token: Option<String>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "***");
        f.debug_struct("Context")
            .field("server", &self.server)
            .field("token", &token)
            .finish()
    }
}

impl Default for Contexts {
    fn default() -> Self {
        Self {
            version: VERSION,
            current: None,
            contexts: BTreeMap::new(),
        }
    }
}

impl Contexts {
    /// Reads the file; none is the same as an empty one.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a file that others can read, or that has something unknown in it.
    pub(crate) fn load() -> Result<Self, Failure> {
        match file() {
            Some(path) => Self::load_from(&path),
            None => Ok(Self::default()),
        }
    }

    /// Changes the file in one step, beside others who do.
    ///
    /// # Errors
    /// As [`load`](Self::load), what `change` says, or the file system's.
    pub(crate) fn edit(
        change: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let path = file().ok_or_else(|| Failure::Usage {
            message: "there is no place for the configuration".to_owned(),
            hint: "set HOME or XDG_CONFIG_HOME".to_owned(),
        })?;
        Self::edit_in(&path, change)
    }

    fn load_from(path: &Path) -> Result<Self, Failure> {
        let reading = || format!("read {}", path.display());
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(Failure::io(reading()))?,
        };
        let mode = fs::metadata(path).map_err(Failure::io(reading()))?;
        if mode.permissions().mode() & 0o077 != 0 {
            return Err(Failure::Usage {
                message: format!("{} has tokens and others can read it", path.display()),
                hint: format!("chmod 600 {}", path.display()),
            });
        }
        let contexts: Self =
            serde_json::from_slice(&text).map_err(|error| not_read(path, &error))?;
        if contexts.version != VERSION {
            return Err(Failure::Usage {
                message: format!("{} has version {}", path.display(), contexts.version),
                hint: format!("this program knows version {VERSION}"),
            });
        }
        Ok(contexts)
    }

    fn edit_in(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let saving = || format!("save {}", path.display());
        let dir = path.parent().unwrap_or(Path::new("/"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(Failure::io(saving()))?;
        let lock = File::create(path.with_extension("lock")).map_err(Failure::io(saving()))?;
        lock.lock().map_err(Failure::io(saving()))?;
        let mut contexts = Self::load_from(path)?;
        change(&mut contexts)?;
        contexts.save(path).map_err(Failure::io(saving()))?;
        Ok(contexts)
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        let part = path.with_extension("part");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&part)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        serde_json::to_writer_pretty(&mut file, self)?;
        writeln!(file)?;
        file.sync_all()?;
        fs::rename(part, path)
    }

    /// The context with this name.
    ///
    /// # Errors
    /// [`Failure::Usage`] with the names there are.
    pub(crate) fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| Failure::Usage {
            message: format!("there is no context `{name}`"),
            hint: self.names(),
        })
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
        match names.as_slice() {
            [] => "`rustci context add NAME --server URL` makes one".to_owned(),
            names => format!("there are {}, and {LOCAL}", names.join(", ")),
        }
    }
}

/// Refuses names that are hard to write or mean something else.
///
/// # Errors
/// [`Failure::Usage`].
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name == LOCAL || !name.bytes().all(good) {
        return Err(Failure::Usage {
            message: format!("`{name}` cannot be the name of a context"),
            hint: format!("use letters, digits, - _ and . ; {LOCAL} means this machine"),
        });
    }
    Ok(())
}

/// What is wrong with the file, without repeating what may be a token.
fn not_read(path: &Path, error: &serde_json::Error) -> Failure {
    let text = error.to_string();
    let what = match text.starts_with("unknown field") {
        true => text,
        false => format!(
            "not understood at line {} column {}",
            error.line(),
            error.column()
        ),
    };
    Failure::Usage {
        message: format!("{}: {what}", path.display()),
        hint: "mend it, or delete it and add the servers again".to_owned(),
    }
}

/// Where the file is, if there is a home.
pub(crate) fn file() -> Option<PathBuf> {
    let given = env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    Some(given.or_else(home)?.join("rustci/contexts.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<Contexts, Failure>) -> String {
        let failure = result.unwrap_err();
        format!("{failure}; {}", failure.hint().unwrap())
    }

    #[test]
    fn a_change_is_saved_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/contexts.json");
        let prod = Context {
            server: "http://ci.example:8000".to_owned(),
            token: Some("hunter2".to_owned()),
        };
        let saved = Contexts::edit_in(&path, |contexts| {
            contexts.contexts.insert("prod".to_owned(), prod.clone());
            Ok(())
        });
        let saved = saved.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(Contexts::load_from(&path).unwrap(), saved);
        assert!(!format!("{saved:?}").contains("hunter2"));
        assert_eq!(saved.get("prod").unwrap(), &prod);
        assert!(
            saved
                .get("test")
                .unwrap_err()
                .hint()
                .unwrap()
                .contains("prod, and local")
        );
    }

    #[test]
    fn a_file_that_is_not_as_written_is_refused_without_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contexts.json");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            Contexts::load_from(&path)
        };
        assert!(message(write(r#"{"version":1}"#, 0o644)).contains("others can read it"));
        assert!(message(write(r#"{"version":2}"#, 0o600)).contains("version 2"));
        assert!(
            message(write(r#"{"version":1,"servers":{}}"#, 0o600))
                .contains("unknown field `servers`")
        );
        let text = r#"{"version":1,"contexts":{"a":{"server":"x","token":["hunter2"]}}}"#;
        let said = message(write(text, 0o600));
        assert!(
            said.contains("line 1") && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn names_are_easy_to_write() {
        for good in ["prod", "eu-1.ci_x"] {
            check_name(good).unwrap();
        }
        for bad in ["", "local", "a b", "a/b", "é"] {
            check_name(bad).unwrap_err();
        }
    }
}
