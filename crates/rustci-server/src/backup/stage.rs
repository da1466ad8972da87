//! Gathering what goes into a backup.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::backup::manifest::FORMAT;
use crate::backup::{BackupError, CATALOGUE, FileEntry, Manifest, STATE, state_digest};
use crate::catalogue::Catalogue;
use crate::engine::Captured;
use crate::logs::{LogKey, chain_path};
use crate::paths::Layout;
use crate::secrets::{KEY_FILE, SECRETS_DIR, STORE_FILE};

/// Directories with this prefix in a data directory belong to backups that are being made.
pub(crate) const STAGE_PREFIX: &str = "backup.part-";
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Whether the key of the secrets goes into a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// It does: whoever has the backup can read the secrets.
    Keys,
    /// It does not.
    NoKeys,
}

/// What goes into a backup, held in a directory of its own. Dropping it removes that.
#[derive(Debug)]
pub(crate) struct Stage {
    data: PathBuf,
    dir: PathBuf,
}

/// Sources, and the contents of artifacts, caches, summaries and reports.
const BLOB_STORES: [&str; 2] = ["blobs", "content"];

impl Stage {
    /// Makes the directory and links the blobs there are.
    ///
    /// # Errors
    /// [`BackupError::Io`]; nothing is left then.
    pub(crate) fn begin(data: &Path) -> Result<Self, BackupError> {
        let dir = data.join(format!("{STAGE_PREFIX}{}", std::process::id()));
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(BackupError::io("remove", &dir))?;
        }
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(BackupError::io("create", &dir))?;
        let stage = Self {
            data: data.to_owned(),
            dir,
        };
        stage.link_blobs()?;
        Ok(stage)
    }

    /// Writes down the state and the catalogue that belongs to it. Runs on the catalogue's thread.
    ///
    /// # Errors
    /// [`BackupError`].
    pub(crate) fn capture(
        &self,
        catalogue: &Catalogue,
        captured: &Captured,
    ) -> Result<(), BackupError> {
        catalogue.copy_to(&self.dir.join(CATALOGUE))?;
        let path = self.dir.join(STATE);
        fs::write(&path, &captured.state).map_err(BackupError::io("write", &path))
    }

    /// Links logs, secrets, and the blobs that came meanwhile, reads everything once, and gives the
    /// manifest.
    ///
    /// # Errors
    /// [`BackupError`].
    pub(crate) fn finish(
        &self,
        captured: &Captured,
        wanted: Wanted,
    ) -> Result<Manifest, BackupError> {
        // Content that the state names was there when the state was taken: linked before, or now.
        self.link_blobs()?;
        let catalogue = Catalogue::open_copy(&self.dir.join(CATALOGUE))?;
        let mut paths = vec![STATE.to_owned(), CATALOGUE.to_owned()];
        for key in catalogue.attempts()? {
            paths.extend(self.link_log(key)?);
        }
        paths.extend(self.blobs()?);
        paths.extend(self.copy_secrets(wanted)?);
        let files = paths.into_iter().map(|path| self.entry(path));
        Ok(Manifest {
            format: FORMAT,
            rustci: env!("CARGO_PKG_VERSION").to_owned(),
            index: captured.index,
            created_ms: now_ms(),
            state_digest: state_digest(&captured.state),
            catalogue_digest: blake3::Hash::from_bytes(catalogue.digest()?)
                .to_hex()
                .to_string(),
            with_keys: self.dir.join(KEY_FILE).exists(),
            note: "the token of the API is not in it: the restored server makes a new one"
                .to_owned(),
            files: files.collect::<Result<_, _>>()?,
        })
    }

    /// Where an entry lies while the stage is there.
    pub(super) fn place(&self, entry: &str) -> PathBuf {
        self.dir.join(entry)
    }

    fn entry(&self, path: String) -> Result<FileEntry, BackupError> {
        let place = self.place(&path);
        let file = File::open(&place).map_err(BackupError::io("open", &place))?;
        let (bytes, blake3) = measure(file).map_err(BackupError::io("read", &place))?;
        Ok(FileEntry {
            path,
            bytes,
            blake3,
        })
    }

    /// Links the log of an attempt and its sidecar, those that are there. A log only grows, so its
    /// length at the time it is read is one that it had.
    fn link_log(&self, key: LogKey) -> Result<Vec<String>, BackupError> {
        let log = key.path(&Layout(&self.data).logs());
        let name = format!("logs/{}/{}.{}.log", key.run, key.job, key.attempt);
        let mut linked = Vec::new();
        for (from, name) in [(chain_path(&log), name.clone() + ".chain"), (log, name)] {
            if self.link(&from, &name)? {
                linked.push(name);
            }
        }
        linked.reverse();
        Ok(linked)
    }

    fn link_blobs(&self) -> Result<(), BackupError> {
        for store in BLOB_STORES {
            let root = self.data.join(store);
            for path in files_below(&root)? {
                let name = format!("{store}/{}", path.display());
                self.link(&root.join(&path), &name)?;
            }
        }
        Ok(())
    }

    fn blobs(&self) -> Result<Vec<String>, BackupError> {
        let mut names = Vec::new();
        for store in BLOB_STORES {
            let found = files_below(&self.dir.join(store))?.into_iter();
            names.extend(found.map(|path| format!("{store}/{}", path.display())));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Small files that are replaced as a whole are copied.
    fn copy_secrets(&self, wanted: Wanted) -> Result<Vec<String>, BackupError> {
        let store = format!("{SECRETS_DIR}/{STORE_FILE}");
        let mut names = vec![store];
        if wanted == Wanted::Keys {
            names.push(KEY_FILE.to_owned());
        }
        let mut linked = Vec::new();
        for name in names {
            if self.link(&self.data.join(&name), &name)? {
                linked.push(name);
            }
        }
        Ok(linked)
    }

    /// Gives a file a second name in the stage; false when it is not there. One that is linked
    /// already stays.
    fn link(&self, from: &Path, name: &str) -> Result<bool, BackupError> {
        let to = self.dir.join(name);
        let linked = match fs::hard_link(from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && from.exists() => {
                let dir = to.parent().unwrap_or(&self.dir);
                fs::create_dir_all(dir).map_err(BackupError::io("create", dir))?;
                fs::hard_link(from, &to)
            }
            other => other,
        };
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(BackupError::io("link", from)(error)),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The next start sweeps what cannot be removed now.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes what backups of an earlier process left in a data directory.
pub(crate) fn sweep(data: &Path) {
    for entry in fs::read_dir(data).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(STAGE_PREFIX)
        {
            // Only space is lost if this fails.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Size and digest of what a reader gives.
pub(super) fn measure(mut from: impl Read) -> io::Result<(u64, String)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut buffer)?;
        let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
            return Ok((bytes, hasher.finalize().to_hex().to_string()));
        };
        hasher.update(part);
        bytes += part.len() as u64;
    }
}

/// Paths of the regular files below `root`, relative to it; uploads under way are left out.
fn files_below(root: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let mut open = vec![PathBuf::new()];
    let mut files = Vec::new();
    while let Some(at) = open.pop() {
        let dir = root.join(&at);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(BackupError::io("list", &dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(BackupError::io("list", &dir))?;
            let path = at.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && path != Path::new("incoming") => open.push(path),
                Ok(kind) if kind.is_file() => files.push(path),
                _ => {}
            }
        }
    }
    Ok(files)
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
