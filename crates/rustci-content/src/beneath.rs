//! A directory and what lies in it, never by way of a link.
//!
//! Jobs leave links where they like. Every part of a path is therefore opened by itself and only if
//! it is a real directory, from a directory that is already open: what a path means cannot change
//! between a look and the use of what was seen.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

/// What directories are opened with.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// What files are opened with: a pipe that lies where a file was must not stop the reader.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How often a directory is made anew that something else took the place of: once is enough where
/// all who write want the directory.
const MAKE_TRIES: usize = 3;

/// A directory that is open. Paths are relative to it and are taken as they are: check them before.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens a directory. The path itself is the caller's and may go through links.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidInput`] when it is no regular file, or not
    /// reached without following a link.
    pub fn open_file(&self, path: &str) -> io::Result<File> {
        let (parent, name) = split(path);
        let parent = self.directory(parent)?;
        open_file_at(parent.as_fd(), name)
    }

    /// Opens a directory in it; the empty path is the root itself.
    pub(crate) fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut fd = self.fd.try_clone()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            fd = open_directory_at(fd.as_fd(), name)?;
        }
        Ok(fd)
    }

    /// Opens a directory and makes what is missing of it. What is in the way and no directory, a
    /// link for one, is replaced.
    pub(crate) fn make_directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut fd = self.fd.try_clone()?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            fd = make_directory_at(fd.as_fd(), name)?;
        }
        Ok(fd)
    }
}

pub(crate) fn open_directory_at(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()).map_err(no_link)
}

/// Others make the same directory at the same time: what was found may be gone, or be the directory,
/// a moment later.
fn make_directory_at(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    for _ in 0..MAKE_TRIES {
        match rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => {}
            Err(Errno::LOOP | Errno::NOTDIR) => {
                match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT | Errno::ISDIR | Errno::PERM) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    open_directory_at(parent, name)
}

pub(crate) fn open_file_at(parent: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let fd = rustix::fs::openat(parent, name, READ, Mode::empty()).map_err(no_link)?;
    let stat = rustix::fs::fstat(&fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        let text = "it is no regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(File::from(fd))
}

/// Makes a new file. A file or link that is in the way is replaced, never written through.
pub(crate) fn create_file_at(parent: BorrowedFd<'_>, name: &str, mode: u32) -> io::Result<File> {
    let create = || rustix::fs::openat(parent, name, CREATE, Mode::from_raw_mode(mode));
    let fd = match create() {
        Err(Errno::EXIST) => {
            clear(parent, name)?;
            create()
        }
        other => other,
    };
    fd.map(File::from).map_err(Into::into)
}

/// Makes a symbolic link in place of whatever file or link is there.
pub(crate) fn link_at(parent: BorrowedFd<'_>, name: &str, target: &str) -> io::Result<()> {
    match rustix::fs::symlinkat(target, parent, name) {
        Err(Errno::EXIST) => {
            clear(parent, name)?;
            Ok(rustix::fs::symlinkat(target, parent, name)?)
        }
        other => Ok(other?),
    }
}

fn clear(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(|error| match error {
        Errno::ISDIR | Errno::PERM => io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a directory is in the way; remove it or choose another path",
        ),
        other => other.into(),
    })
}

/// Sets when a file or directory was changed.
pub(crate) fn set_modified(fd: impl AsFd, modified_ns: i64) -> io::Result<()> {
    let time = Timespec {
        tv_sec: modified_ns.div_euclid(1_000_000_000),
        tv_nsec: modified_ns.rem_euclid(1_000_000_000),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(rustix::fs::futimens(fd, &times)?)
}

/// The directory of a path, empty for the root, and its last name.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn no_link(error: Errno) -> io::Error {
    match error {
        Errno::LOOP => io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is a symbolic link, or lies behind one",
        ),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_read_or_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        symlink(outside.path(), dir.path().join("way")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(root.open_file("way/secret").is_err());
        assert!(root.open_file("file").is_err());
        let parent = root.make_directory("way").unwrap();
        let mut file = create_file_at(parent.as_fd(), "secret", 0o644).unwrap();
        file.write_all(b"mine").unwrap();
        let parent = root.directory("").unwrap();
        create_file_at(parent.as_fd(), "file", 0o644).unwrap();
        assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"s");
        assert_eq!(fs::read(dir.path().join("way/secret")).unwrap(), b"mine");
        assert!(
            fs::symlink_metadata(dir.path().join("file"))
                .unwrap()
                .is_file()
        );
    }

    #[test]
    fn threads_that_want_the_same_directory_all_get_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for round in 0..300 {
            let way = format!("{round}");
            symlink("/nowhere", dir.path().join(&way)).unwrap();
            let barrier = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        barrier.wait();
                        root.make_directory(&format!("{way}/below")).unwrap();
                    });
                }
            });
        }
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mknodat(CWD, dir.path().join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let error = root.open_file("pipe").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_directory_is_never_replaced_by_a_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let parent = root.directory("").unwrap();
        let error = create_file_at(parent.as_fd(), "d", 0o644).unwrap_err();
        assert!(error.to_string().contains("in the way"), "{error}");
    }
}
