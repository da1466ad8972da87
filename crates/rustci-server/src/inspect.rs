//! Looking at the data directory of a server that does not run: is everything in it whole?

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use journal::{FileJournal, JournalConfig};
use rustci_scheduler::SchedulerConfig;

use crate::backup::state_digest;
use crate::catalogue::Catalogue;
use crate::engine::restore_state;
use crate::lock::DataLock;
use crate::logs::check_log;
use crate::paths::Layout;

/// Directories whose files are named by their BLAKE3.
const STORES: [&str; 2] = ["blobs", "content"];

/// What the journal of a stopped server holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFacts {
    /// Its last record.
    pub index: u64,
    /// BLAKE3 of the scheduler's state after it, before anything goes on.
    pub state_digest: String,
    /// Runs in that state.
    pub runs: usize,
    /// Bytes behind the last record that an interrupted write left; they were cut off.
    pub torn_bytes: u64,
}

/// What the catalogue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueFacts {
    /// The journal index it stands for.
    pub applied: u64,
    /// BLAKE3 over its rows.
    pub digest: String,
}

/// Reads the journal in `data` from its beginning to its end. A torn end is cut off, as a start
/// does.
///
/// # Errors
/// A sentence: another process has the directory, or what is damaged.
pub fn journal(data: &Path) -> Result<JournalFacts, String> {
    let _lock = DataLock::take(data).map_err(|error| error.to_string())?;
    let opened = FileJournal::open(Layout(data).journal(), JournalConfig::default());
    let (_journal, recovered) = opened.map_err(|error| error.to_string())?;
    let scheduler = restore_state(SchedulerConfig::default(), &recovered);
    let scheduler = scheduler.map_err(|error| error.to_string())?;
    Ok(JournalFacts {
        index: recovered.last().get(),
        state_digest: state_digest(&scheduler.snapshot()),
        runs: scheduler.runs().count(),
        torn_bytes: recovered.torn_bytes(),
    })
}

/// Reads the whole catalogue in `data`, also beside a running server.
///
/// # Errors
/// A sentence that says what is damaged.
pub fn catalogue(data: &Path) -> Result<CatalogueFacts, String> {
    let opened = Catalogue::open_read_only(data);
    let catalogue = opened.map_err(|error| error.to_string())?;
    catalogue.check()?;
    let applied = catalogue.applied().map_err(|error| error.to_string())?;
    let digest = catalogue.digest().map_err(|error| error.to_string())?;
    Ok(CatalogueFacts {
        applied,
        digest: blake3::Hash::from_bytes(digest).to_hex().to_string(),
    })
}

/// Holds every log in `data` against its hash chain. Gives how many there are, and which differ.
///
/// # Errors
/// A sentence, when they cannot be read.
pub fn logs(data: &Path) -> Result<(usize, Vec<String>), String> {
    each_file(&Layout(data).logs(), "log", check_log)
}

/// Holds every blob in `data` against its name. Gives how many there are, and which differ.
///
/// # Errors
/// A sentence, when they cannot be read.
pub fn blobs(data: &Path) -> Result<(usize, Vec<String>), String> {
    let mut all = (0, Vec::new());
    for store in STORES {
        let (count, bad) = each_file(&data.join(store), "", |path| {
            let mut hasher = blake3::Hasher::new();
            let mut file = File::open(path)?;
            std::io::copy(&mut file, &mut hasher)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            Ok(hasher.finalize().to_hex().as_str() == name)
        })?;
        all.0 += count;
        all.1.extend(bad);
    }
    Ok(all)
}

/// Checks every file with this ending below `root`, uploads under way left out.
fn each_file(
    root: &Path,
    ending: &str,
    is_good: impl Fn(&Path) -> std::io::Result<bool>,
) -> Result<(usize, Vec<String>), String> {
    let mut open: Vec<PathBuf> = vec![root.to_owned()];
    let (mut count, mut bad) = (0, Vec::new());
    while let Some(dir) = open.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| format!("{}: {error}", dir.display()))?,
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "incoming" {
                open.push(path);
            } else if path.is_file() && path.extension().unwrap_or_default() == ending {
                count += 1;
                let good =
                    is_good(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                bad.extend((!good).then(|| path.display().to_string()));
            }
        }
    }
    Ok((count, bad))
}
