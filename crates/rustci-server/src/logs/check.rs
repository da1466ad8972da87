//! Holding a log against its hash chain.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::limits::CHAIN_BLOCK_BYTES;
use crate::logs::chain::Entry;
use crate::logs::chain_path;

/// Whether the log at `path` is what its chain says, as far as the chain goes: a log that still
/// grows has no link for its last, part block.
///
/// # Errors
/// The file system's.
pub(crate) fn check_log(path: &Path) -> io::Result<bool> {
    let stored = match fs::read(chain_path(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let mut log = File::open(path)?;
    let mut rest = stored.as_slice();
    let mut link = [0; 32];
    let mut block = Vec::with_capacity(CHAIN_BLOCK_BYTES);
    while let Some((entry, after)) = Entry::parse(rest) {
        block.clear();
        let most = u64::try_from(CHAIN_BLOCK_BYTES).unwrap_or(u64::MAX);
        (&mut log).take(most).read_to_end(&mut block)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&link).update(&block);
        if block.is_empty() || *hasher.finalize().as_bytes() != entry.link {
            return Ok(false);
        }
        (link, rest) = (entry.link, after);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::file::LogFile;
    use crate::logs::record::tests::line;

    #[test]
    fn a_changed_byte_and_a_missing_end_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1/1.1.log");
        let bytes: Vec<u8> = (0..9).flat_map(|_| line(&[b'x'; 20_000])).collect();
        let mut log = LogFile::open(&path).unwrap();
        log.append(0, &bytes).unwrap();
        log.seal().unwrap();
        assert!(check_log(&path).unwrap());
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut bent = bytes.clone();
            bent[at] ^= 1;
            fs::write(&path, bent).unwrap();
            assert!(!check_log(&path).unwrap(), "byte {at}");
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(!check_log(&path).unwrap());
        fs::write(&path, &bytes).unwrap();
        fs::remove_file(chain_path(&path)).unwrap();
        assert!(check_log(&path).unwrap());
    }
}
