//! The binary that libFuzzer drives. `FUZZ_TARGET` names the target.

#![no_main]

use std::{env, sync::OnceLock};

use rustci_fuzz::{TARGETS, Target, find};

static TARGET: OnceLock<&Target> = OnceLock::new();

/// The target that the environment names.
fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = env::var("FUZZ_TARGET").unwrap_or_default();
        let known: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        find(&name).unwrap_or_else(|| panic!("FUZZ_TARGET is {name:?}; use one of {known:?}"))
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (target().run)(data));
