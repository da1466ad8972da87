//! Users in a file: lines of `user`, a name and rules.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::rules::User;
use super::{RuleError, Users};
use crate::command::Lookup;
use crate::limits::{USERS_FILE_BYTES_MAX, USERS_MAX};

/// Why a file of users cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The system does not give or take it.
    #[error("{}: {error}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A line is none.
    #[error("{}:{line}: {cause}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// Others can read passwords in it.
    #[error(
        "{}:{line}: there is a password, and others can read the file (mode {mode:o}); set it to 600, or \
         write the digest behind '#'",
        path.display()
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// Who may read it.
        mode: u32,
    },
    /// The default user has a password in the file and another one.
    #[error(
        "{} has a line for 'default', and there is a password besides; leave one of them out",
        path.display()
    )]
    TwoPasswords {
        /// The file.
        path: PathBuf,
    },
}

/// Reads users. Empty lines and those that begin with `#` are left out.
pub(super) fn read(path: &Path, lookup: &Lookup) -> Result<Users, UsersError> {
    let failed = |error| UsersError::System {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    let mut text = String::new();
    let mut file = file.take(USERS_FILE_BYTES_MAX + 1);
    file.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > USERS_FILE_BYTES_MAX {
        let error = io::Error::other(format!("longer than {USERS_FILE_BYTES_MAX} bytes"));
        return Err(failed(error));
    }
    let mut users = Users::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |cause: String| UsersError::Line {
            path: path.to_owned(),
            line: number,
            cause,
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        if mode & 0o077 != 0 && words.iter().skip(2).any(|word| word.starts_with('>')) {
            return Err(UsersError::Readable {
                path: path.to_owned(),
                line: number,
                mode,
            });
        }
        let user = user(&words, lookup).map_err(wrong)?;
        if users.len() >= USERS_MAX {
            return Err(wrong(format!("more than {USERS_MAX} users")));
        }
        if users.insert(user.name.clone(), Arc::new(user)).is_some() {
            return Err(wrong("the user is there twice".to_owned()));
        }
    }
    Ok(users)
}

fn user(words: &[&str], lookup: &Lookup) -> Result<User, String> {
    let ["user", name, rules @ ..] = words else {
        return Err("a line is 'user', a name and rules".to_owned());
    };
    let mut user = User::new((*name).to_owned());
    for rule in rules {
        let done = user.apply(rule.as_bytes(), lookup);
        // A password must not get into a log.
        let shown = if rule.starts_with('>') { ">..." } else { rule };
        done.map_err(|error: RuleError| format!("'{shown}': {error}"))?;
    }
    Ok(user)
}

/// Writes users to a file that only its owner can read, at once or not at all.
pub(super) fn write(path: &Path, users: &[Arc<User>]) -> Result<(), UsersError> {
    let failed = |error| UsersError::System {
        path: path.to_owned(),
        error,
    };
    let mut text = Vec::new();
    for user in users {
        text.extend(user.line());
        text.push(b'\n');
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let write = || {
        // One that was left behind may be open to others.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(failed)
}
