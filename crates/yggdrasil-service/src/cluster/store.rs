//! The membership over restarts.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::membership::{Membership, MembershipError};

/// Why a membership cannot be kept or had back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path}: {error}; remove it to begin with the membership that the server is given")]
    Damaged {
        path: PathBuf,
        error: MembershipError,
    },
}

/// What is kept: the membership, and the one before it while slots are on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) membership: Membership,
    pub(crate) before: Membership,
}

impl Kept {
    pub(crate) fn new(membership: Membership) -> Self {
        Self {
            before: membership.clone(),
            membership,
        }
    }
}

const BEFORE: &str = "\n# the one before, while slots are on their way\n";

pub(crate) fn read(path: &Path) -> Result<Option<Kept>, StoreError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let path = path.to_owned();
            return Err(StoreError::Io { path, error });
        }
    };
    let (membership, before) = text.split_once(BEFORE).unwrap_or((&text, &text));
    let parse = |text: &str| {
        text.parse().map_err(|error| StoreError::Damaged {
            path: path.to_owned(),
            error,
        })
    };
    Ok(Some(Kept {
        membership: parse(membership)?,
        before: parse(before)?,
    }))
}

/// Writes both, whole or not at all.
pub(crate) fn write(
    path: &Path,
    membership: &Membership,
    before: &Membership,
) -> Result<(), StoreError> {
    let mut text = membership.to_string();
    if before != membership {
        text += BEFORE;
        text += &before.to_string();
    }
    let next = path.with_extension("new");
    let write = || {
        let mut file = fs::File::create(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
        fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|error| StoreError::Io {
        path: path.to_owned(),
        error,
    })
}

/// Whether this membership had been taken in an earlier life.
pub(crate) fn was_kept(path: Option<&Path>, membership: &Membership) -> bool {
    let kept = path.and_then(|path| read(path).ok().flatten());
    kept.is_some_and(|kept| kept.membership == *membership)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster");
        assert_eq!(read(&path).unwrap(), None);
        let one: Membership = "epoch 1\nnode a h:1".parse().unwrap();
        let two: Membership = "epoch 2\nnode a h:1\nnode b h:2".parse().unwrap();
        write(&path, &two, &one).unwrap();
        let kept = read(&path).unwrap().unwrap();
        assert_eq!((&kept.membership, &kept.before), (&two, &one));
        assert!(was_kept(Some(&path), &two) && !was_kept(Some(&path), &one));
        write(&path, &two, &two).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), Kept::new(two));
        fs::write(&path, "epoch x").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("remove it"));
    }
}
