//! Generates `valkyrie.v2` from `spec/proto`.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("../../spec/proto");
    let files = [
        "valkyrie/v2/session.proto",
        "valkyrie/v2/observe.proto",
        "valkyrie/v2/job.proto",
        "valkyrie/v2/diagnostics.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={}", root.join(file).display());
    }
    let descriptors = protox::compile(files, [root])?;
    // Sorted maps make equal messages equal bytes.
    prost_build::Config::new()
        .btree_map(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
