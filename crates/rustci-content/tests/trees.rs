//! Trees from files to files: collected, packed, extracted, archived.

#![cfg(test)]

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use rustci_content::archive::{UnpackError, unpack_tar, write_tar, write_zip};
use rustci_content::{
    Chunk, ChunkSource, Digest, ExtractError, Found, FoundKind, Manifest, PackError, Packed,
    Patterns, Root, TreeKind, TreeLimits, Work, collect, extract, pack,
};

const LIMITS: TreeLimits = TreeLimits {
    bytes: 1 << 40,
    entries: 10_000,
};

/// Chunks as packing found them, read from where they lie.
#[derive(Default)]
struct Pieces(Mutex<HashMap<Digest, Vec<u8>>>);

impl ChunkSource for Pieces {
    fn read(&self, chunk: &Chunk, buffer: &mut Vec<u8>) -> io::Result<()> {
        let known = self.0.lock().unwrap();
        let bytes = known.get(&chunk.digest).ok_or(io::ErrorKind::NotFound)?;
        buffer.clone_from(bytes);
        Ok(())
    }
}

fn find(dir: &Path, kind: TreeKind, patterns: &[&str]) -> Vec<Found> {
    let patterns: Vec<String> = patterns.iter().map(|&text| text.to_owned()).collect();
    let patterns = Patterns::parse(&patterns).unwrap();
    collect(&Root::open(dir).unwrap(), "", &patterns, kind).unwrap()
}

fn packed(dir: &Path, kind: TreeKind, found: Vec<Found>) -> Result<(Packed, Pieces), PackError> {
    let root = Root::open(dir).unwrap();
    let pieces = Pieces::default();
    let stop = AtomicBool::new(false);
    let work = Work {
        root: &root,
        prefix: "",
        kind,
        limits: LIMITS,
        stop: &stop,
        on_piece: &|piece| {
            let file = fs::File::open(dir.join(piece.path)).unwrap();
            let mut bytes = vec![0; piece.chunk.length as usize];
            file.read_exact_at(&mut bytes, piece.offset).unwrap();
            pieces.0.lock().unwrap().insert(piece.chunk.digest, bytes);
        },
    };
    let packed = pack(&work, found)?;
    Ok((packed, pieces))
}

fn artifact(dir: &Path) -> (Packed, Pieces) {
    packed(
        dir,
        TreeKind::Artifact,
        find(dir, TreeKind::Artifact, &["."]),
    )
    .unwrap()
}

fn put_back(
    manifest: &Manifest,
    pieces: &Pieces,
    dir: &Path,
    to: &str,
) -> Result<u64, ExtractError> {
    let root = Root::open(dir).unwrap();
    let stop = AtomicBool::new(false);
    extract(manifest, pieces, &root, to, &stop).map(|extracted| extracted.files)
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8))
        .flat_map(|_| next())
        .take(bytes)
        .collect()
}

fn world() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("bin/deep")).unwrap();
    fs::write(dir.path().join("bin/tool"), noise(5 << 20)).unwrap();
    fs::set_permissions(
        dir.path().join("bin/tool"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    fs::write(dir.path().join("bin/deep/größe.txt"), "text").unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    dir
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let (dir, to) = (world(), tempfile::tempdir().unwrap());
    let (packed, pieces) = artifact(dir.path());
    assert_eq!(
        put_back(&packed.manifest, &pieces, to.path(), "out").unwrap(),
        3
    );
    let (again, _) = artifact(&to.path().join("out"));
    assert_eq!(again.digest, packed.digest);
    let mode = fs::metadata(to.path().join("out/bin/tool"))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o755);
}

#[test]
fn a_cache_keeps_times_links_and_empty_directories() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = dir.path().join("workspace/target");
    fs::create_dir_all(place.join("empty")).unwrap();
    fs::write(place.join("lib.so.1"), "x").unwrap();
    symlink("lib.so.1", place.join("lib.so")).unwrap();
    let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_234_567);
    fs::File::open(place.join("lib.so.1"))
        .unwrap()
        .set_modified(past)
        .unwrap();
    let found = find(dir.path(), TreeKind::Cache, &["workspace/target"]);
    let (packed, pieces) = packed(dir.path(), TreeKind::Cache, found).unwrap();
    put_back(&packed.manifest, &pieces, to.path(), "").unwrap();
    let back = to.path().join("workspace/target");
    assert_eq!(
        fs::metadata(back.join("lib.so.1"))
            .unwrap()
            .modified()
            .unwrap(),
        past
    );
    assert_eq!(
        fs::read_link(back.join("lib.so")).unwrap(),
        Path::new("lib.so.1")
    );
    assert!(back.join("empty").is_dir());
}

#[test]
fn what_a_job_planted_is_replaced_and_never_followed() {
    let (dir, to) = (world(), tempfile::tempdir().unwrap());
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("tool"), "precious").unwrap();
    symlink(outside.path(), to.path().join("bin")).unwrap();
    symlink("/etc/passwd", to.path().join("empty")).unwrap();
    let (packed, pieces) = artifact(dir.path());
    put_back(&packed.manifest, &pieces, to.path(), "").unwrap();
    assert_eq!(fs::read(outside.path().join("tool")).unwrap(), b"precious");
    assert!(
        fs::symlink_metadata(to.path().join("bin"))
            .unwrap()
            .is_dir()
    );
    assert!(
        fs::symlink_metadata(to.path().join("empty"))
            .unwrap()
            .is_file()
    );
}

#[test]
fn a_directory_in_the_way_of_a_file_is_an_error_that_says_so() {
    let (dir, to) = (world(), tempfile::tempdir().unwrap());
    fs::create_dir(to.path().join("empty")).unwrap();
    let (packed, pieces) = artifact(dir.path());
    let error = put_back(&packed.manifest, &pieces, to.path(), "").unwrap_err();
    assert!(
        error.to_string().contains("a directory is in the way"),
        "{error}"
    );
}

#[test]
fn a_chunk_that_was_tampered_with_is_found() {
    let (dir, to) = (world(), tempfile::tempdir().unwrap());
    let (packed, pieces) = artifact(dir.path());
    for bytes in pieces.0.lock().unwrap().values_mut() {
        bytes[0] ^= 1;
    }
    let error = put_back(&packed.manifest, &pieces, to.path(), "").unwrap_err();
    assert!(matches!(error, ExtractError::Damaged { .. }), "{error}");
}

#[test]
fn a_file_that_became_something_else_after_it_was_found_fails() {
    let dir = world();
    let check = |change: &dyn Fn(&Path), expected: &str| {
        let path = dir.path().join("victim");
        fs::write(&path, "0123456789").unwrap();
        let found = find(dir.path(), TreeKind::Artifact, &["victim"]);
        change(&path);
        let error = packed(dir.path(), TreeKind::Artifact, found)
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(expected), "{error}");
        fs::remove_file(&path).unwrap();
    };
    let swap = |path: &Path| {
        fs::remove_file(path).unwrap();
        symlink("/etc/passwd", path).unwrap();
    };
    check(&swap, "symbolic link");
    check(
        &|path| fs::write(path, "0123456789more").unwrap(),
        "changed while",
    );
    check(&|path| fs::write(path, "0").unwrap(), "changed while");
}

#[test]
fn a_huge_sparse_file_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::File::create(dir.path().join("sparse"))
        .unwrap()
        .set_len(8 << 40)
        .unwrap();
    let found = find(dir.path(), TreeKind::Artifact, &["sparse"]);
    assert!(matches!(found[0].kind, FoundKind::File { .. }));
    let error = packed(dir.path(), TreeKind::Artifact, found)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("the limit is"), "{error}");
}

#[test]
fn an_archive_is_the_same_bytes_for_the_same_tree_and_unpacks_to_it() {
    let (dir, to) = (world(), tempfile::tempdir().unwrap());
    let (packed, pieces) = artifact(dir.path());
    let mut tar = Vec::new();
    write_tar(&packed.manifest, &pieces, &mut tar).unwrap();
    let mut again = Vec::new();
    write_tar(&packed.manifest, &pieces, &mut again).unwrap();
    assert_eq!(tar, again);
    let root = Root::open(to.path()).unwrap();
    assert_eq!(unpack_tar(tar.as_slice(), &root, LIMITS).unwrap().files, 3);
    assert_eq!(artifact(to.path()).0.digest, packed.digest);
}

#[test]
fn a_zip_archive_reads_back_with_another_program() {
    let dir = world();
    let (packed, pieces) = artifact(dir.path());
    let mut bytes = Vec::new();
    write_zip(&packed.manifest, &pieces, &mut bytes).unwrap();
    let mut zip = zip::ZipArchive::new(io::Cursor::new(&bytes)).unwrap();
    assert_eq!(zip.len(), 3);
    let mut tool = zip.by_name("bin/tool").unwrap();
    assert_eq!(tool.unix_mode().unwrap() & 0o777, 0o755);
    let mut content = Vec::new();
    tool.read_to_end(&mut content).unwrap();
    assert_eq!(content, noise(5 << 20));
    drop(tool);
    assert!(zip.by_name("bin/deep/größe.txt").is_ok());
}

/// One entry of a hostile archive, with a name that the `tar` library would not write.
fn tar_of(entries: &[(&[u8], tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, data) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_link_name_literal("/etc/passwd").unwrap();
        header.set_cksum();
        out.write_all(header.as_bytes()).unwrap();
        out.write_all(data).unwrap();
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn hostile_archives_are_refused_and_touch_nothing_outside() {
    use tar::EntryType as Kind;
    let parent = tempfile::tempdir().unwrap();
    let to = parent.path().join("to");
    fs::create_dir(&to).unwrap();
    let root = Root::open(&to).unwrap();
    let unpack = |entries: &[(&[u8], Kind, &[u8])]| {
        unpack_tar(tar_of(entries).as_slice(), &root, LIMITS).unwrap_err()
    };
    for name in [
        b"../out".as_slice(),
        b"/abs",
        b"a/../../out",
        b"a\nb",
        b"\x1b[2J",
        b"a\\..\\..\\x",
    ] {
        let error = unpack(&[(name, Kind::Regular, b"x")]);
        assert!(matches!(error, UnpackError::Name { .. }), "{error}");
    }
    for kind in [
        Kind::Symlink,
        Kind::Link,
        Kind::Char,
        Kind::Block,
        Kind::Fifo,
    ] {
        let error = unpack(&[(b"entry", kind, b"")]);
        assert!(matches!(error, UnpackError::Kind { .. }), "{error}");
    }
    let twice = unpack(&[
        (b"same", Kind::Regular, b"1"),
        (b"same", Kind::Regular, b"2"),
    ]);
    assert!(matches!(twice, UnpackError::Twice { .. }), "{twice}");
    let few = TreeLimits {
        bytes: 3,
        entries: 10,
    };
    let large = tar_of(&[(b"f", Kind::Regular, b"four")]);
    let error = unpack_tar(large.as_slice(), &root, few).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge { .. }), "{error}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}
