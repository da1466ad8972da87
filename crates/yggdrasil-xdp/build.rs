//! Compiles the program for the kernel, where the feature `xdp` asks for it.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=bpf");
    if env::var_os("CARGO_FEATURE_XDP").is_none() {
        return Ok(());
    }
    let sources = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("bpf");
    let object = Path::new(&env::var("OUT_DIR")?).join("limiter.bpf.o");
    // v3 has compare-and-swap; -g makes the types that maps are declared by.
    let mut clang = Command::new("clang");
    clang
        .current_dir(sources)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g"])
        .args(["-Wall", "-Wextra", "-Werror"])
        .args(["-fdebug-compilation-dir=.", "-c", "limiter.bpf.c", "-o"])
        .arg(object);
    match clang.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            for line in String::from_utf8_lossy(&output.stderr).lines() {
                println!("cargo::error={line}");
            }
        }
        Err(error) => println!(
            "cargo::error=clang compiles the program for the kernel and does not start ({error}); \
             install it with: apt-get install clang"
        ),
    }
    Ok(())
}
