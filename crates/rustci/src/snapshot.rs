//! The source of a run: the project's files as one archive with a content address.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::Failure;

/// An archive of a project's files. The same files give the same digest, anywhere and at any time.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The archive.
    pub(crate) tar: Vec<u8>,
    /// BLAKE3 of the archive.
    pub(crate) digest: blake3::Hash,
}

/// Archives of more bytes are refused: they are more likely a forgotten data set than source.
const ARCHIVE_BYTES_MAX: usize = 1 << 30;

impl Snapshot {
    /// Takes the files of `root` that git tracks or would track; without git, those that no ignore
    /// file names.
    ///
    /// # Errors
    /// A file that cannot be read, or an archive of more than 1 GiB.
    pub(crate) fn take(root: &Path) -> Result<Self, Failure> {
        let paths = git_files(root).unwrap_or_else(|| walked_files(root));
        let mut archive = tar::Builder::new(Digesting::default());
        for path in paths {
            append(&mut archive, root, &path).map_err(|cause| {
                let path = root.join(&path);
                let doing = format!("read {} for the source snapshot", path.display());
                Failure::Io { doing, cause }
            })?;
        }
        let done = archive
            .into_inner()
            .map_err(Failure::io("finish the source snapshot"))?;
        Ok(Self {
            digest: done.hasher.finalize(),
            tar: done.bytes,
        })
    }
}

/// Hashes what it stores.
#[derive(Default)]
struct Digesting {
    bytes: Vec<u8>,
    hasher: blake3::Hasher,
}

impl Write for Digesting {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > ARCHIVE_BYTES_MAX {
            return Err(io::Error::other(
                "the source is larger than 1 GiB; name what does not belong to it in .gitignore",
            ));
        }
        self.hasher.update(piece);
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What git tracks and what it would track, relative to `root`; nothing outside a repository.
fn git_files(root: &Path) -> Option<BTreeSet<PathBuf>> {
    let inside = root
        .ancestors()
        .any(|directory| directory.join(".git").exists());
    if !inside {
        return None;
    }
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let names = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    Some(
        names
            .map(|name| PathBuf::from(std::ffi::OsStr::from_bytes(name)))
            .collect(),
    )
}

fn walked_files(root: &Path) -> BTreeSet<PathBuf> {
    let walk = ignore::WalkBuilder::new(root)
        .hidden(false)
        .require_git(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let files = walk
        .flatten()
        .filter(|entry| entry.file_type().is_some_and(|kind| !kind.is_dir()));
    files
        .filter_map(|entry| entry.path().strip_prefix(root).ok().map(Path::to_owned))
        .collect()
}

/// Adds one file or link. What is neither is left out, and a tracked file that was deleted.
fn append(archive: &mut tar::Builder<Digesting>, root: &Path, path: &Path) -> io::Result<()> {
    let full = root.join(path);
    let meta = match fs::symlink_metadata(&full) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    if meta.is_symlink() {
        let target = fs::read_link(&full)?;
        if !stays_inside(path, &target) {
            return Ok(());
        }
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        archive.append_link(&mut header, path, target)?;
        return Ok(());
    }
    if !meta.is_file() {
        return Ok(());
    }
    // Git keeps one bit of the mode, and the umask of a checkout must not change the digest.
    let executable = meta.permissions().mode() & 0o111 != 0;
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(meta.len());
    archive.append_data(&mut header, path, BufReader::new(File::open(&full)?))
}

/// Whether a link at `path` points to something below the root, as far as its text tells.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("src")).unwrap();
        fs::write(root.join("src/a.txt"), "a").unwrap();
        fs::write(root.join("build.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(root.join("build.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(root.join(".gitignore"), "target\n").unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join("target/big"), "x").unwrap();
        symlink("src/a.txt", root.join("link")).unwrap();
        symlink("/etc/passwd", root.join("outside")).unwrap();
        symlink("../../etc", root.join("src/above")).unwrap();
        dir
    }

    fn listing(snapshot: &Snapshot) -> Vec<(String, u32, u64)> {
        let mut archive = tar::Archive::new(snapshot.tar.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let path = entry.path().unwrap().display().to_string();
            (path, header.mode().unwrap(), header.mtime().unwrap())
        });
        entries.collect()
    }

    #[test]
    fn takes_what_is_not_ignored_and_no_link_to_the_outside() {
        let dir = sample();
        let snapshot = Snapshot::take(dir.path()).unwrap();
        let expected = [
            (".gitignore".to_owned(), 0o644, 0),
            ("build.sh".to_owned(), 0o755, 0),
            ("link".to_owned(), 0o777, 0),
            ("src/a.txt".to_owned(), 0o644, 0),
        ];
        assert_eq!(listing(&snapshot), expected);
        assert_eq!(snapshot.digest, blake3::hash(&snapshot.tar));
    }

    #[test]
    fn the_digest_depends_on_content_only() {
        let (one, two) = (sample(), sample());
        let first = Snapshot::take(one.path()).unwrap().digest;
        assert_eq!(Snapshot::take(two.path()).unwrap().digest, first);
        fs::write(two.path().join("src/a.txt"), "b").unwrap();
        assert_ne!(Snapshot::take(two.path()).unwrap().digest, first);
    }

    #[test]
    fn inside_git_it_takes_tracked_and_new_files_but_not_ignored_or_deleted_ones() {
        let dir = sample();
        let git = |args: &[&str]| {
            let status = Command::new("git")
                .args(args)
                .current_dir(dir.path())
                .status()
                .unwrap();
            assert!(status.success());
        };
        git(&["init", "-q"]);
        git(&["add", "-f", "target/big", "build.sh"]);
        fs::remove_file(dir.path().join("build.sh")).unwrap();
        let paths: Vec<_> = listing(&Snapshot::take(dir.path()).unwrap())
            .into_iter()
            .map(|(path, ..)| path)
            .collect();
        assert_eq!(paths, [".gitignore", "link", "src/a.txt", "target/big"]);
    }
}
