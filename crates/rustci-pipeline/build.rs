//! Generates `rustci.v1` (jobs and runner calls) from `spec/proto`, without a system protoc.

use std::{env, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Read when it runs: two checkouts that share a target directory share this program.
    let proto = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../spec/proto");
    let files = [
        "rustci/v1/content.proto",
        "rustci/v1/job.proto",
        "rustci/v1/runner.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={}", proto.join(file).display());
    }
    let descriptors = protox::compile(files, [&proto])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
