//! A place on a real disk, and what the disk alone takes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate, statfs};
use tempfile::TempDir;

/// `f_type` of a file system in memory, where a sync costs nothing.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// A directory beside this program, deleted with its handle. `/tmp` may lie in memory.
pub(crate) fn scratch() -> Result<TempDir> {
    let program = std::env::current_exe()?;
    let beside = program.parent().context("the program has no directory")?;
    ensure!(
        statfs(beside)?.f_type != TMPFS_MAGIC,
        "{} lies in memory; build into a directory on a disk",
        beside.display()
    );
    Ok(tempfile::tempdir_in(beside)?)
}

/// The least that a durable change can cost: one write and one `fdatasync` in a file whose blocks
/// were set aside before.
pub(crate) struct RawSync {
    file: File,
    record: Vec<u8>,
    offset: u64,
}

impl RawSync {
    /// A file of `bytes` in `directory`, for records of `record_bytes`.
    pub(crate) fn new(directory: &Path, bytes: u64, record_bytes: usize) -> Result<Self> {
        let file = File::create_new(directory.join("raw"))?;
        fallocate(&file, FallocateFlags::empty(), 0, bytes)?;
        file.sync_all()?;
        Ok(Self {
            file,
            record: vec![0x5a; record_bytes],
            offset: 0,
        })
    }

    /// Microseconds that the next record takes.
    pub(crate) fn sample(&mut self) -> Result<f64> {
        let start = Instant::now();
        self.file.write_all_at(&self.record, self.offset)?;
        self.file.sync_data()?;
        self.offset += self.record.len() as u64;
        Ok(start.elapsed().as_secs_f64() * 1e6)
    }
}
