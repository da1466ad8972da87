//! Finding the files of a tree by patterns.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustci_pipeline::glob::Glob;
use rustix::fs::{AtFlags, Dir, FileType};

use crate::beneath::{Root, open_directory_at};
use crate::limits::{DEPTH_MAX, ENTRIES_MAX};
use crate::manifest::TreeKind;

/// Patterns for files below one directory. The last one that fits decides; `!` in front takes away.
/// The name of a directory stands for everything in it.
#[derive(Debug)]
pub struct Patterns {
    rules: Vec<Rule>,
    /// Directories below which something can fit.
    starts: BTreeSet<String>,
    names_git: bool,
}

#[derive(Debug)]
struct Rule {
    takes: bool,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// A path without signs, itself or above what fits.
    Path(String),
    /// A pattern, and the same for what lies below.
    Glob(Glob, Glob),
}

/// Something that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Relative to the directory that was searched.
    pub path: String,
    /// What it is.
    pub kind: FoundKind,
    /// When it was changed, in Unix nanoseconds.
    pub modified_ns: i64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundKind {
    /// A regular file.
    File {
        /// Whether its owner may execute it.
        executable: bool,
        /// Its length in bytes.
        size: u64,
    },
    /// A directory with nothing in it.
    Directory,
    /// A symbolic link.
    Link {
        /// Its target.
        target: String,
    },
}

/// Why files were not collected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// The pattern's writer's fault.
    #[error("pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern as written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A directory or entry that cannot be read.
    #[error("{path:?} cannot be read: {source}")]
    Read {
        /// The entry.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A device, a socket, a pipe.
    #[error("{path:?} is {what}; only files can be kept, leave it out with `!{path}`")]
    Special {
        /// The entry.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A link where there may be none.
    #[error(
        "{path:?} is a symbolic link to {target:?}; artifacts hold files only, leave it out with `!{path}`"
    )]
    Link {
        /// The link.
        path: String,
        /// Its target.
        target: String,
    },
    /// A name that is not UTF-8.
    #[error("the name {path:?} is not UTF-8; rename the file")]
    Name {
        /// The path as far as it is text.
        path: String,
    },
    /// Over [`ENTRIES_MAX`] entries.
    #[error("more than {ENTRIES_MAX} files fit; pack them into one before")]
    TooMany,
    /// Over [`DEPTH_MAX`] directories.
    #[error("{path:?} lies deeper than {DEPTH_MAX} directories")]
    TooDeep {
        /// The directory.
        path: String,
    },
}

impl Patterns {
    /// Reads patterns.
    ///
    /// # Errors
    /// [`CollectError::Pattern`].
    pub fn parse(patterns: &[String]) -> Result<Self, CollectError> {
        let mut parsed = Self {
            rules: Vec::new(),
            starts: BTreeSet::new(),
            names_git: false,
        };
        for pattern in patterns {
            let failed = |reason| CollectError::Pattern {
                pattern: pattern.clone(),
                reason,
            };
            parsed.add(pattern).map_err(failed)?;
        }
        Ok(parsed)
    }

    fn add(&mut self, pattern: &str) -> Result<(), String> {
        let takes = !pattern.starts_with('!');
        let text = clean(pattern.strip_prefix('!').unwrap_or(pattern))?;
        let signs = |c| matches!(c, '*' | '?' | '[' | '\\');
        if takes {
            let start = text.split('/').take_while(|name| !name.contains(signs));
            self.starts.insert(start.collect::<Vec<_>>().join("/"));
            self.names_git |= text.split('/').any(|name| name == ".git");
        }
        let form = if text.contains(signs) {
            Form::Glob(Glob::parse(&text)?, Glob::parse(&format!("{text}/**"))?)
        } else {
            Form::Path(text)
        };
        self.rules.push(Rule { takes, form });
        Ok(())
    }

    /// Whether a path fits.
    #[must_use]
    pub fn fits(&self, path: &str) -> bool {
        let last = self.rules.iter().rev().find(|rule| rule.form.fits(path));
        last.is_some_and(|rule| rule.takes)
    }
}

impl Form {
    fn fits(&self, path: &str) -> bool {
        match self {
            Self::Path(whole) => is_at_or_below(path, whole),
            Self::Glob(glob, below) => glob.fits(path) || below.fits(path),
        }
    }
}

fn is_at_or_below(path: &str, whole: &str) -> bool {
    whole.is_empty()
        || path
            .strip_prefix(whole)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The pattern without `./` and a last `/`; `.` is everything.
fn clean(pattern: &str) -> Result<String, String> {
    if pattern.starts_with('/') {
        return Err("it begins with `/`; patterns are relative to the workspace".to_owned());
    }
    if pattern.split('/').any(|name| name == "..") {
        return Err("it leaves the workspace; name something inside".to_owned());
    }
    if pattern.is_empty() {
        return Err("it is empty; write `.` for everything".to_owned());
    }
    let names = pattern.split('/');
    let names: Vec<&str> = names.filter(|name| !matches!(*name, "" | ".")).collect();
    Ok(names.join("/"))
}

/// Everything below `below` in `root` that fits, in no particular order. Directories count only when
/// they are empty, and only in caches. `.git` is left out unless a pattern names it.
///
/// # Errors
/// [`CollectError`], at the first thing that fits and cannot be kept.
pub fn collect(
    root: &Root,
    below: &str,
    patterns: &Patterns,
    kind: TreeKind,
) -> Result<Vec<Found>, CollectError> {
    let mut walk = Walk {
        patterns,
        kind,
        found: Vec::new(),
    };
    let mut done: Vec<&str> = Vec::new();
    for start in &patterns.starts {
        // In order, so a directory comes before those inside of it.
        if done.iter().any(|done| is_at_or_below(start, done)) {
            continue;
        }
        done.push(start);
        walk.start(root, below, start)?;
    }
    Ok(walk.found)
}

struct Walk<'p> {
    patterns: &'p Patterns,
    kind: TreeKind,
    found: Vec<Found>,
}

impl Walk<'_> {
    /// Walks from a path that a pattern names; one that is not there is no error.
    fn start(&mut self, root: &Root, below: &str, start: &str) -> Result<(), CollectError> {
        let (parent, name) = start.rsplit_once('/').unwrap_or(("", start));
        let parent = match root.directory(&format!("{below}/{parent}")) {
            Ok(fd) => fd,
            Err(error) => return missing(start, error),
        };
        if name.is_empty() {
            return self.directory(parent.as_fd(), "");
        }
        match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => self.entry(parent.as_fd(), name, start.to_owned()),
            Err(error) => missing(start, error.into()),
        }
    }

    fn directory(&mut self, fd: BorrowedFd<'_>, path: &str) -> Result<(), CollectError> {
        if path.split('/').count() > DEPTH_MAX {
            let path = path.to_owned();
            return Err(CollectError::TooDeep { path });
        }
        let entries = Dir::read_from(fd).map_err(|error| unreadable(path, error))?;
        let mut is_empty = true;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(path, error))?;
            let bytes = entry.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            is_empty = false;
            let lossy = String::from_utf8_lossy(bytes);
            let below = join(path, &lossy);
            match std::str::from_utf8(bytes) {
                Ok(name) => self.entry(fd, name, below)?,
                Err(_) if self.patterns.fits(&below) => {
                    return Err(CollectError::Name { path: below });
                }
                Err(_) => {}
            }
        }
        if is_empty && self.kind == TreeKind::Cache && self.patterns.fits(path) && !path.is_empty()
        {
            let stat = rustix::fs::fstat(fd).map_err(|error| unreadable(path, error))?;
            self.push(path.to_owned(), FoundKind::Directory, &stat)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &str,
        path: String,
    ) -> Result<(), CollectError> {
        if name == ".git" && !self.patterns.names_git {
            return Ok(());
        }
        let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = match stat {
            Ok(stat) => stat,
            Err(error) => return missing(&path, error.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let fd = open_directory_at(parent, name);
            let fd = fd.map_err(|error| unreadable(&path, error))?;
            return self.directory(fd.as_fd(), &path);
        }
        if !self.patterns.fits(&path) {
            return Ok(());
        }
        let found = match kind {
            FileType::RegularFile => FoundKind::File {
                executable: stat.st_mode & 0o100 != 0,
                size: u64::try_from(stat.st_size).unwrap_or_default(),
            },
            FileType::Symlink => self.link(parent, name, &path)?,
            other => {
                let what = word(other);
                return Err(CollectError::Special { path, what });
            }
        };
        self.push(path, found, &stat)
    }

    fn link(
        &self,
        parent: BorrowedFd<'_>,
        name: &str,
        path: &str,
    ) -> Result<FoundKind, CollectError> {
        let target = rustix::fs::readlinkat(parent, name, Vec::new());
        let target = target.map_err(|error| unreadable(path, error))?;
        let path = path.to_owned();
        match (self.kind, target.into_string()) {
            (TreeKind::Cache, Ok(target)) => Ok(FoundKind::Link { target }),
            (TreeKind::Artifact, Ok(target)) => Err(CollectError::Link { path, target }),
            (_, Err(_)) => Err(CollectError::Name { path }),
        }
    }

    fn push(
        &mut self,
        path: String,
        kind: FoundKind,
        stat: &rustix::fs::Stat,
    ) -> Result<(), CollectError> {
        if self.found.len() >= ENTRIES_MAX {
            return Err(CollectError::TooMany);
        }
        let is_link = matches!(kind, FoundKind::Link { .. });
        let modified_ns = match self.kind {
            TreeKind::Cache if !is_link => nanoseconds(stat),
            _ => 0,
        };
        self.found.push(Found {
            path,
            kind,
            modified_ns,
        });
        Ok(())
    }
}

fn nanoseconds(stat: &rustix::fs::Stat) -> i64 {
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    stat.st_mtime
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

fn join(directory: &str, name: &str) -> String {
    match directory {
        "" => name.to_owned(),
        _ => format!("{directory}/{name}"),
    }
}

fn missing(path: &str, error: io::Error) -> Result<(), CollectError> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(()),
        _ => Err(unreadable(path, error)),
    }
}

fn unreadable(path: &str, error: impl Into<io::Error>) -> CollectError {
    let path = if path.is_empty() { "." } else { path };
    CollectError::Read {
        path: path.to_owned(),
        source: error.into(),
    }
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "no file",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn world() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "dist/app.js",
            "dist/sub/b.map",
            "src/a.rs",
            ".git/config",
            "dist/.git/x",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir(dir.path().join("dist/empty")).unwrap();
        dir
    }

    fn find(dir: &Path, kind: TreeKind, patterns: &[&str]) -> Result<Vec<String>, String> {
        let patterns: Vec<String> = patterns.iter().map(|&text| text.to_owned()).collect();
        let patterns = Patterns::parse(&patterns).map_err(|error| error.to_string())?;
        let root = Root::open(dir).unwrap();
        let found = collect(&root, "", &patterns, kind).map_err(|error| error.to_string())?;
        let mut paths: Vec<String> = found.into_iter().map(|found| found.path).collect();
        paths.sort();
        Ok(paths)
    }

    #[test]
    fn patterns_pick_files_and_the_last_one_decides() {
        let dir = world();
        let check = |patterns: &[&str], expected: &[&str]| {
            let found = find(dir.path(), TreeKind::Artifact, patterns);
            assert_eq!(found.unwrap(), expected, "{patterns:?}");
        };
        check(&["dist"], &["dist/app.js", "dist/sub/b.map"]);
        check(&["./dist/"], &["dist/app.js", "dist/sub/b.map"]);
        check(&["dist/*"], &["dist/app.js", "dist/sub/b.map"]);
        check(&["dist", "!dist/sub"], &["dist/app.js"]);
        check(&["**/*.map"], &["dist/sub/b.map"]);
        check(&["**", "!**/*.js"], &["dist/sub/b.map", "src/a.rs"]);
        check(&["."], &["dist/app.js", "dist/sub/b.map", "src/a.rs"]);
        check(&["dist", "dist/sub"], &["dist/app.js", "dist/sub/b.map"]);
        check(&["nothing", "src/none/*"], &[]);
    }

    #[test]
    fn version_control_is_left_out_unless_named() {
        let dir = world();
        let found = find(dir.path(), TreeKind::Artifact, &[".git"]).unwrap();
        assert_eq!(found, [".git/config"]);
    }

    #[test]
    fn empty_directories_belong_to_caches() {
        let dir = world();
        let found = find(dir.path(), TreeKind::Cache, &["dist"]).unwrap();
        assert_eq!(found, ["dist/app.js", "dist/empty", "dist/sub/b.map"]);
    }

    #[test]
    fn what_leaves_the_workspace_is_refused() {
        let dir = world();
        let refused = |pattern: &str| find(dir.path(), TreeKind::Artifact, &[pattern]).unwrap_err();
        assert!(refused("/etc").contains("begins with `/`"));
        assert!(refused("a/../../b").contains("leaves the workspace"));
        assert!(refused("").contains("empty"));
    }

    #[test]
    fn links_and_pipes_are_refused_only_where_they_would_be_kept() {
        let dir = world();
        symlink("/etc/passwd", dir.path().join("dist/passwd")).unwrap();
        symlink("/etc", dir.path().join("src/etc")).unwrap();
        let error = find(dir.path(), TreeKind::Artifact, &["dist"]).unwrap_err();
        assert!(
            error.contains("symbolic link to \"/etc/passwd\""),
            "{error}"
        );
        let found = find(
            dir.path(),
            TreeKind::Artifact,
            &["dist/*.js", "src/**/*.rs"],
        );
        assert_eq!(found.unwrap(), ["dist/app.js", "src/a.rs"]);
        let pipe = dir.path().join("dist/sub/pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            pipe,
            FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let error = find(dir.path(), TreeKind::Cache, &["dist/sub"]).unwrap_err();
        assert!(error.contains("is a pipe"), "{error}");
    }

    #[test]
    fn a_name_that_is_no_text_is_refused_where_it_fits() {
        use std::os::unix::ffi::OsStrExt;
        let dir = world();
        let name = std::ffi::OsStr::from_bytes(b"dist/\xFF.bin");
        fs::write(dir.path().join(name), "x").unwrap();
        let error = find(dir.path(), TreeKind::Cache, &["dist"]).unwrap_err();
        assert!(error.contains("is not UTF-8"), "{error}");
        assert!(find(dir.path(), TreeKind::Cache, &["src"]).is_ok());
    }
}
