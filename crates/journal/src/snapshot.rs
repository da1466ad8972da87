//! Snapshot files: the whole state after one record, replaced in one step.
//!
//! ```text
//! magic "RCSNAPSH", u32 version, u64 index, u64 length, u32 crc32c of all of it, state
//! ```

use crate::{Disk, DiskFile, Index, JournalError, record::VERSION, recover::corrupt};

const PREFIX: &str = "snapshot-";
const UNFINISHED: &str = "unfinished-snapshot";
const MAGIC: &[u8; 8] = b"RCSNAPSH";
const HEADER_BYTES: usize = 32;

/// The name of the snapshot after record `index`.
pub(crate) fn name(index: Index) -> String {
    format!("{PREFIX}{:020}", index.get())
}

/// Writes a snapshot beside the old ones, gives it its name, and removes the old ones.
pub(crate) fn store<D: Disk>(disk: &D, index: Index, state: &[u8]) -> Result<(), JournalError> {
    if let Err(error) = write(disk, &encode(index, state)) {
        // It may be what fills the disk. A start removes it otherwise.
        let _ = disk.remove(UNFINISHED);
        return Err(error);
    }
    let name = name(index);
    disk.rename(UNFINISHED, &name)
        .map_err(JournalError::disk("rename", &name))?;
    disk.sync_names()
        .map_err(JournalError::disk("sync the directory of", &name))?;
    remove_older(disk, &name)
}

fn write<D: Disk>(disk: &D, bytes: &[u8]) -> Result<(), JournalError> {
    let created = disk.create(UNFINISHED, bytes.len() as u64);
    let file = created.map_err(JournalError::disk("create", UNFINISHED))?;
    file.write_at(0, bytes)
        .map_err(JournalError::disk("write", UNFINISHED))?;
    file.sync().map_err(JournalError::disk("sync", UNFINISHED))
}

fn remove_older<D: Disk>(disk: &D, newest: &str) -> Result<(), JournalError> {
    let names = disk
        .list()
        .map_err(JournalError::disk("list", "directory"))?;
    for old in names
        .iter()
        .filter(|name| name.starts_with(PREFIX) && name.as_str() < newest)
    {
        disk.remove(old)
            .map_err(JournalError::disk("remove", old))?;
    }
    Ok(())
}

/// The newest snapshot among sorted `names`; an unfinished one is removed.
pub(crate) fn load_newest<D: Disk>(
    disk: &D,
    names: &[String],
) -> Result<Option<(Index, Vec<u8>)>, JournalError> {
    if names.iter().any(|name| name == UNFINISHED) {
        disk.remove(UNFINISHED)
            .map_err(JournalError::disk("remove", UNFINISHED))?;
    }
    let Some(name) = names.iter().rev().find(|name| name.starts_with(PREFIX)) else {
        return Ok(None);
    };
    let mut bytes = disk.read(name).map_err(JournalError::disk("read", name))?;
    let index = decode(name, &bytes)?;
    bytes.drain(..HEADER_BYTES);
    Ok(Some((index, bytes)))
}

fn encode(index: Index, state: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + state.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&index.get().to_be_bytes());
    bytes.extend_from_slice(&(state.len() as u64).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), state);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(state);
    bytes
}

fn decode(name: &str, bytes: &[u8]) -> Result<Index, JournalError> {
    let torn = || corrupt(name, 0, "the snapshot is shorter than its header says");
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(torn)?;
    let (version, rest) = rest.split_first_chunk().ok_or_else(torn)?;
    let (index, rest) = rest.split_first_chunk().ok_or_else(torn)?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(torn)?;
    let (crc, state) = rest.split_first_chunk().ok_or_else(torn)?;
    let version = u32::from_be_bytes(*version);
    if magic != MAGIC {
        return Err(corrupt(name, 0, "it does not begin as a snapshot does"));
    }
    if version != VERSION {
        return Err(JournalError::Version {
            file: name.to_owned(),
            version,
            known: VERSION,
        });
    }
    if u64::from_be_bytes(*length) != state.len() as u64 {
        return Err(torn());
    }
    let covered = bytes.get(..HEADER_BYTES - 4).ok_or_else(torn)?;
    if crc32c::crc32c_append(crc32c::crc32c(covered), state) != u32::from_be_bytes(*crc) {
        return Err(corrupt(name, 0, "the snapshot does not match its checksum"));
    }
    Ok(Index::new(u64::from_be_bytes(*index)))
}
