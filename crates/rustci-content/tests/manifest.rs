//! The bytes of a manifest: golden, canonical, and safe to read.

#![cfg(test)]

use proptest::prelude::*;
use rustci_content::{Chunk, Digest, Entry, EntryKind, Manifest, ManifestError, TreeKind};

fn chunk(byte: u8, length: u32) -> Chunk {
    Chunk {
        digest: Digest::from([byte; 32]),
        length,
    }
}

/// Written by hand from the layout, not by the encoder.
fn golden_artifact() -> Vec<u8> {
    let mut bytes = b"RCTM\x01\x00\x03".to_vec();
    bytes.extend(b"\x02\x05empty");
    bytes.extend(b"\x01\x06run.sh\x07\x01");
    bytes.extend([0xAA; 32]);
    bytes.extend(b"\x07");
    // 1,500,000 is 0xE0 0xC6 0x5B, 1,000,000 is 0xC0 0x84 0x3D, 500,000 is 0xA0 0xC2 0x1E.
    bytes.extend(b"\x00\x08sub/data\xE0\xC6\x5B\x02");
    bytes.extend([0xBB; 32]);
    bytes.extend(b"\xC0\x84\x3D");
    bytes.extend([0xCC; 32]);
    bytes.extend(b"\xA0\xC2\x1E");
    bytes
}

#[test]
fn the_bytes_are_those_of_the_layout() {
    let script = Entry {
        kind: EntryKind::File {
            executable: true,
            size: 7,
            chunks: vec![chunk(0xAA, 7)],
        },
        ..Entry::empty_file("run.sh")
    };
    let data = vec![chunk(0xBB, 1_000_000), chunk(0xCC, 500_000)];
    let entries = vec![
        Entry::file("sub/data", 1_500_000, data),
        script,
        Entry::directory("empty"),
    ];
    let manifest = Manifest::new(TreeKind::Artifact, entries).unwrap();
    assert_eq!(manifest.encode(), golden_artifact());
    assert_eq!(Manifest::decode(&golden_artifact()), Ok(manifest));
}

#[test]
fn caches_have_times_and_links() {
    let mut bytes = b"RCTM\x01\x01\x02\x00\x0Bworkspace/a".to_vec();
    bytes.extend(1_700_000_000_000_000_000_i64.to_be_bytes());
    bytes.extend(b"\x00\x00\x03\x0Bworkspace/b\x01a");
    let manifest = Manifest::decode(&bytes).unwrap();
    assert_eq!(manifest.entries()[0].modified_ns, 1_700_000_000_000_000_000);
    assert_eq!(manifest.entries()[1], Entry::link("workspace/b", "a"));
    assert_eq!(manifest.encode(), bytes);
}

#[test]
fn what_is_not_canonical_is_refused() {
    let refused = |bytes: &[u8]| Manifest::decode(bytes).unwrap_err();
    let damaged = |bytes: &[u8]| matches!(refused(bytes), ManifestError::Damaged { .. });
    assert!(damaged(b"RCTX\x01\x00\x00"));
    assert!(damaged(b""));
    assert_eq!(
        refused(b"RCTM\x02\x00\x00"),
        ManifestError::Version { found: 2 }
    );
    assert!(damaged(b"RCTM\x01\x00\x00trailing"));
    // A count of one in two bytes.
    assert!(damaged(b"RCTM\x01\x00\x81\x00\x02\x01d"));
    // A count that nothing follows takes no memory.
    assert!(damaged(b"RCTM\x01\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"));
    let unsorted = b"RCTM\x01\x00\x02\x02\x01b\x02\x01a";
    assert!(matches!(refused(unsorted), ManifestError::Order { .. }));
    let twice = b"RCTM\x01\x00\x02\x02\x01a\x02\x01a";
    assert!(matches!(refused(twice), ManifestError::Twice { .. }));
    let through = b"RCTM\x01\x00\x02\x00\x01a\x00\x00\x02\x03a/b";
    assert!(matches!(refused(through), ManifestError::Twice { .. }));
    let outside = b"RCTM\x01\x00\x01\x02\x04../a";
    assert!(matches!(refused(outside), ManifestError::Name { .. }));
    let link = b"RCTM\x01\x00\x01\x03\x01a\x01b";
    assert!(matches!(refused(link), ManifestError::Link { .. }));
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let name = "[a-c]{1,2}(/[a-c.]{1,3}){0,3}";
    let entry = (name, any::<bool>(), 0..6_u8).prop_map(|(path, executable, size)| {
        let path = path.replace("..", "x").replace("/.", "/x");
        let chunks = (size > 0).then(|| chunk(size, size.into()));
        let kind = EntryKind::File {
            executable,
            size: size.into(),
            chunks: chunks.into_iter().collect(),
        };
        Entry {
            kind,
            ..Entry::empty_file(path)
        }
    });
    proptest::collection::vec(entry, 0..12)
}

proptest! {
    #[test]
    fn a_tree_reads_back_from_any_order(entries in entries(), turn in 0..12_usize) {
        let Ok(manifest) = Manifest::new(TreeKind::Artifact, entries.clone()) else {
            return Ok(());
        };
        let mut turned = entries;
        let places = turned.len().max(1);
        turned.rotate_left(turn % places);
        let other = Manifest::new(TreeKind::Artifact, turned).unwrap();
        prop_assert_eq!(other.encode(), manifest.encode());
        for entry in manifest.entries() {
            prop_assert_eq!(manifest.find(&entry.path), Some(entry));
        }
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn whatever_is_read_writes_the_same_bytes(mut bytes in Just(golden_artifact()),
        at in 0..120_usize, byte: u8, cut in 0..200_usize)
    {
        let places = bytes.len();
        bytes[at % places] = byte;
        bytes.truncate(cut.max(1));
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }
}
