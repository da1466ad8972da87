//! Runs every stored input through its target.

#![cfg(test)]

use std::{fs, path::Path};

use rustci_fuzz::TARGETS;

#[test]
fn every_stored_input_passes_its_target() {
    for target in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target.name);
        let files = fs::read_dir(&corpus).unwrap_or_else(|e| panic!("{}: {e}", corpus.display()));
        let mut replayed = 0;
        for file in files {
            let path = file.unwrap().path();
            // Shown only when the target panics.
            println!("{}", path.display());
            (target.run)(&fs::read(&path).unwrap());
            replayed += 1;
        }
        assert!(replayed > 0, "{} is empty", corpus.display());
    }
}

#[test]
fn every_corpus_has_a_target() {
    for folder in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(
            rustci_fuzz::find(&name).is_some(),
            "corpus/{name} has no target"
        );
    }
}
