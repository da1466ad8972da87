//! The reader of manifests: whatever it takes it writes back to the same bytes, and what it takes is
//! safe to unpack.

use rustci_content::{EntryKind, Manifest, TreeKind, TreeLimits};

/// Reads a manifest.
pub(crate) fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::decode(data) else {
        return;
    };
    assert_eq!(manifest.encode(), data, "one tree has one form");
    for entry in manifest.entries() {
        let path = &entry.path;
        let mut parts = path.split('/');
        assert!(
            parts.all(|name| !matches!(name, "" | "." | "..")),
            "{path:?} leaves its tree"
        );
        assert_eq!(manifest.find(path), Some(entry));
        if let EntryKind::Link { target } = &entry.kind {
            assert_eq!(manifest.kind(), TreeKind::Cache);
            assert!(!target.starts_with('/'), "{target:?} leaves its tree");
        }
    }
    let limits = TreeLimits {
        bytes: manifest.bytes(),
        entries: manifest.entries().len(),
    };
    // A bomb is refused, and nothing else is wrong with what was taken.
    let _ = manifest.check_limits(limits);
}
