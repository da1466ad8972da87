//! Unpacks a source archive, trusting nothing in it.
//!
//! An entry is a directory, a regular file or a symbolic link, under a relative path without `..`.
//! Nothing is ever written through a link: a path that has one on its way is refused. A link may only
//! point inside the workspace, and its target may have `..` only at its front, where it means what
//! it says; behind a name it could follow another link out.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use super::SourceError;
use crate::limits::{SOURCE_BYTES_MAX, SOURCE_ENTRIES_MAX};

/// Between two looks at whether the job still goes on.
const ENTRIES_PER_LOOK: u64 = 256;

/// Why an archive was refused. Always the archive's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("{path} leaves the workspace; pack relative paths without `..`")]
    Outside { path: String },
    #[error("{path} goes through a link or a file; pack the files themselves")]
    ThroughLink { path: String },
    #[error("{path} links to {target}, which is outside of the workspace")]
    LinkOutside { path: String, target: String },
    #[error("{path} is neither a file, a directory nor a symbolic link; leave it out")]
    Kind { path: String },
    #[error("{path} is in it twice")]
    Twice { path: String },
    #[error("it has more than {SOURCE_ENTRIES_MAX} entries")]
    Entries,
    #[error("it unpacks to more than {SOURCE_BYTES_MAX} bytes")]
    Bytes,
}

/// What an archive held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Unpacks a tar archive into an empty directory.
///
/// `goes_on` is asked now and then; its first `false` ends the work.
pub(super) fn unpack(
    archive: &Path,
    workspace: &Path,
    mut goes_on: impl FnMut() -> bool,
) -> Result<Unpacked, SourceError> {
    let mut archive = Archive::new(BufReader::with_capacity(256 * 1024, File::open(archive)?));
    let mut unpacker = Unpacker {
        workspace,
        directories: HashSet::from([PathBuf::new()]),
        unpacked: Unpacked::default(),
    };
    for (index, entry) in (0..).zip(archive.entries()?) {
        if index >= SOURCE_ENTRIES_MAX {
            return Err(SnapshotError::Entries.into());
        }
        if index % ENTRIES_PER_LOOK == 0 && !goes_on() {
            return Err(SourceError::Stopped);
        }
        unpacker.entry(entry?)?;
    }
    Ok(unpacker.unpacked)
}

struct Unpacker<'w> {
    workspace: &'w Path,
    /// Relative paths that are known to be real directories.
    directories: HashSet<PathBuf>,
    unpacked: Unpacked,
}

impl Unpacker<'_> {
    fn entry(&mut self, mut entry: Entry<'_, impl io::Read>) -> Result<(), SourceError> {
        let named = entry.path()?.into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = inside(&named)?;
        match kind {
            EntryType::Directory => self.directory(&path),
            EntryType::Regular | EntryType::Continuous => self.file(&path, &mut entry),
            EntryType::Symlink => {
                let target = entry
                    .link_name()?
                    .map(|target| target.into_owned())
                    .unwrap_or_default();
                self.link(&path, &target)
            }
            _ => Err(SnapshotError::Kind { path: shown(&path) }.into()),
        }
    }

    /// Makes sure that every part of the path is a directory, and no link to one.
    fn directory(&mut self, path: &Path) -> Result<(), SourceError> {
        if self.directories.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        let full = self.workspace.join(path);
        match fs::create_dir(&full) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(&full)?.is_dir() {
                    return Err(SnapshotError::ThroughLink { path: shown(path) }.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.directories.insert(path.to_owned());
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        entry: &mut Entry<'_, impl io::Read>,
    ) -> Result<(), SourceError> {
        self.parent(path)?;
        self.unpacked.bytes = self.unpacked.bytes.saturating_add(entry.size());
        if self.unpacked.bytes > SOURCE_BYTES_MAX {
            return Err(SnapshotError::Bytes.into());
        }
        // Only whether it can be executed is kept: no set-id bits, nothing the owner cannot read.
        let mode = if entry.header().mode()? & 0o111 == 0 {
            0o644
        } else {
            0o755
        };
        let new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(self.workspace.join(path));
        let mut file = new.map_err(|error| taken(error, path))?;
        io::copy(entry, &mut file)?;
        self.unpacked.files += 1;
        Ok(())
    }

    fn link(&mut self, path: &Path, target: &Path) -> Result<(), SourceError> {
        self.parent(path)?;
        if !target_is_inside(path, target) {
            let (path, target) = (shown(path), shown(target));
            return Err(SnapshotError::LinkOutside { path, target }.into());
        }
        symlink(target, self.workspace.join(path)).map_err(|error| taken(error, path))?;
        self.unpacked.files += 1;
        Ok(())
    }

    fn parent(&mut self, path: &Path) -> Result<(), SourceError> {
        match path.parent() {
            Some(parent) => self.directory(parent),
            // The workspace itself, as anything but a directory.
            None => Err(SnapshotError::Kind { path: shown(path) }.into()),
        }
    }
}

/// The path without `.`; refused when it could lead out.
fn inside(path: &Path) -> Result<PathBuf, SnapshotError> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            _ => return Err(SnapshotError::Outside { path: shown(path) }),
        }
    }
    Ok(clean)
}

fn target_is_inside(link: &Path, target: &Path) -> bool {
    // How far up the link may reach: the directories above it, all of which are real.
    let mut depth = link.components().count().saturating_sub(1);
    let mut descended = false;
    for component in target.components() {
        match component {
            Component::Normal(_) => descended = true,
            Component::CurDir => {}
            Component::ParentDir if !descended && depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    !target.as_os_str().is_empty()
}

fn taken(error: io::Error, path: &Path) -> SourceError {
    match error.kind() {
        io::ErrorKind::AlreadyExists => SnapshotError::Twice { path: shown(path) }.into(),
        _ => error.into(),
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tar::{Builder, Header};

    enum Item<'a> {
        File(&'a str, u32, &'a str),
        Dir(&'a str),
        Link(&'a str, &'a str),
        Special(&'a str, EntryType),
    }

    fn archive(items: &[Item<'_>]) -> tempfile::NamedTempFile {
        let mut builder = Builder::new(Vec::new());
        for item in items {
            let (path, kind, mode, body, target) = match item {
                Item::File(path, mode, body) => (path, EntryType::Regular, *mode, *body, ""),
                Item::Dir(path) => (path, EntryType::Directory, 0o755, "", ""),
                Item::Link(path, target) => (path, EntryType::Symlink, 0o777, "", *target),
                Item::Special(path, kind) => (path, *kind, 0o644, "", "x"),
            };
            let mut header = Header::new_gnu();
            // Written past the library's checks, as an attacker would.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(body.len() as u64);
            header.set_cksum();
            builder.append(&header, body.as_bytes()).unwrap();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), builder.into_inner().unwrap()).unwrap();
        file
    }

    fn unpacked(items: &[Item<'_>]) -> (tempfile::TempDir, Result<Unpacked, SourceError>) {
        let parent = tempfile::tempdir().unwrap();
        let workspace = parent.path().join("workspace");
        fs::create_dir(&workspace).unwrap();
        let result = unpack(archive(items).path(), &workspace, || true);
        (parent, result)
    }

    #[test]
    fn files_links_and_modes_arrive() {
        let (dir, result) = unpacked(&[
            Item::Dir("./src"),
            Item::File("src/main.rs", 0o644, "fn main() {}"),
            Item::File("run.sh", 0o4755, "#!/bin/sh"),
            Item::Link("src/up", "../run.sh"),
        ]);
        assert_eq!(
            result.unwrap(),
            Unpacked {
                files: 3,
                bytes: 21
            }
        );
        let workspace = dir.path().join("workspace");
        assert_eq!(
            fs::read_to_string(workspace.join("src/up")).unwrap(),
            "#!/bin/sh"
        );
        let mode = fs::metadata(workspace.join("run.sh"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7111, 0o111, "executable, without its set-id bit");
    }

    #[test]
    fn every_way_out_is_refused() {
        let traps: &[&[Item<'_>]] = &[
            &[Item::File("/etc/passwd", 0o644, "")],
            &[Item::File("../outside", 0o644, "")],
            &[Item::File("a/../../outside", 0o644, "")],
            &[Item::Link("link", "/etc")],
            &[Item::Link("link", "..")],
            &[Item::Link("a/link", "../../outside")],
            &[Item::Link("link", "."), Item::File("link/file", 0o644, "")],
            &[
                Item::Link("a/b/root", "../.."),
                Item::Link("out", "a/b/root/../.."),
            ],
            &[
                Item::Link("a/b/root", "../.."),
                Item::Link("a/b/root/up", "../.."),
            ],
            &[Item::Special("device", EntryType::Char)],
            &[Item::Special("pipe", EntryType::Fifo)],
            &[Item::Special("hard", EntryType::Link)],
            &[
                Item::File("same", 0o644, "1"),
                Item::File("same", 0o644, "2"),
            ],
            &[
                Item::File("file", 0o644, "1"),
                Item::File("file/below", 0o644, "2"),
            ],
        ];
        for (index, trap) in traps.iter().enumerate() {
            let (dir, result) = unpacked(trap);
            assert!(
                matches!(result, Err(SourceError::Snapshot(_))),
                "trap {index}: {result:?}"
            );
            assert!(!dir.path().join("outside").exists(), "trap {index}");
        }
    }

    #[test]
    fn a_stopped_job_stops_unpacking() {
        let archive = archive(&[Item::File("a", 0o644, "")]);
        let workspace = tempfile::tempdir().unwrap();
        let result = unpack(archive.path(), workspace.path(), || false);
        assert!(matches!(result, Err(SourceError::Stopped)));
    }
}
