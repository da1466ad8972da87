//! `hashFiles(..)`: one hash over the files of the workspace that fit some patterns.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustci_pipeline::glob::{Glob, list_fits};
use sha2::{Digest, Sha256};

/// SHA-256 over the SHA-256 of each file that fits, in the order of their paths, as hex. Empty when
/// no file fits. Links are not followed, so the hash cannot depend on anything outside.
///
/// # Errors
/// A sentence for people.
pub(crate) fn hash_files(workspace: &Path, patterns: &[String]) -> Result<String, String> {
    let globs = patterns.iter().map(|pattern| Glob::parse(pattern));
    let globs = globs.collect::<Result<Vec<_>, _>>()?;
    let mut files = Vec::new();
    collect(workspace, "", &mut files).map_err(unreadable)?;
    files.retain(|path| list_fits(&globs, path));
    files.sort();
    if files.is_empty() {
        return Ok(String::new());
    }
    let mut whole = Sha256::new();
    for path in files {
        let file = digest(&workspace.join(&path));
        whole.update(file.map_err(|error| format!("{path} cannot be read: {error}"))?);
    }
    Ok(whole
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn unreadable(error: io::Error) -> String {
    format!("the workspace cannot be read: {error}")
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.push(path);
        } else if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        }
    }
    Ok(())
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_follows_the_files_that_fit_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        for (path, text) in [("Cargo.lock", "1"), ("a/Cargo.lock", "2"), ("other", "3")] {
            fs::write(dir.path().join(path), text).unwrap();
        }
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("a/link.lock")).unwrap();
        let hash = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|&text| text.to_owned()).collect();
            hash_files(dir.path(), &patterns)
        };
        let both = hash(&["**/*.lock"]).unwrap();
        assert_eq!(both.len(), 64);
        assert_eq!(hash(&["Cargo.lock", "a/*.lock"]).unwrap(), both);
        assert_ne!(hash(&["**/*.lock", "!a/**"]).unwrap(), both);
        fs::write(dir.path().join("other"), "changed").unwrap();
        assert_eq!(hash(&["**/*.lock"]).unwrap(), both);
        fs::write(dir.path().join("a/Cargo.lock"), "changed").unwrap();
        assert_ne!(hash(&["**/*.lock"]).unwrap(), both);
        assert_eq!(hash(&["*.missing"]).unwrap(), "");
    }
}
