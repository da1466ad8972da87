//! Puts the schemas of `spec/proto/valkyrie` into the program, so that it shows bodies by the names
//! of their fields.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../spec/proto");
    let directory = root.join("valkyrie/v2");
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    files.sort();
    let descriptors = protox::compile(files, [root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?).join("valkyrie.v2.bin");
    fs::write(out, descriptors.encode_to_vec())?;
    Ok(())
}
