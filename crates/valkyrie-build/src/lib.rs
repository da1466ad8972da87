//! Rust clients and services from `.proto` files, for build scripts.
//!
//! Needs no `protoc`. In `build.rs`:
//!
//! ```no_run
//! fn main() -> Result<(), valkyrie_build::Error> {
//!     valkyrie_build::compile(&["proto/greeter.proto"], &["proto"])
//! }
//! ```
//!
//! and in the program, which depends on `valkyrie` and `prost`:
//!
//! ```text
//! mod greeter {
//!     include!(concat!(env!("OUT_DIR"), "/demo.greeter.rs"));
//! }
//! ```
//!
//! For each `service Greeter` this gives a trait `Greeter` with an async method for each of its
//! methods, `greeter_service`, which makes a `valkyrie::Service` of whoever implements it, and
//! `GreeterClient`, which calls over a `valkyrie::LocalClient`, a `valkyrie::Client` or any other
//! `tower` service of their kind.

mod generate;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use prost_build::Config;

use generate::Generator;

/// Why nothing was generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The files are no valid `.proto` files, or one of them is not there.
    #[error("{0}")]
    Proto(#[from] protox::Error),
    /// The code could not be written.
    #[error("generated code not written: {0}")]
    Write(#[from] io::Error),
}

/// Generates code for `protos`, which are looked up in `includes`, into `OUT_DIR`.
///
/// # Errors
/// See [`Error`].
pub fn compile(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    Builder::default().compile(protos, includes)
}

/// Settings of the generated code.
#[derive(Debug, Default)]
#[must_use]
pub struct Builder {
    messages: Config,
    one_way: BTreeSet<String>,
}

impl Builder {
    /// Settings for the code of messages.
    pub fn messages(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.messages);
        self
    }

    /// Makes `package.Service.Method` a one-way method: its messages are not answered, whatever
    /// the file says that it returns.
    pub fn one_way(mut self, method: impl Into<String>) -> Self {
        self.one_way.insert(method.into());
        self
    }

    /// Generates code for `protos`, which are looked up in `includes`, into `OUT_DIR` or where
    /// [`messages`](Self::messages) says.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn compile(
        self,
        protos: &[impl AsRef<Path>],
        includes: &[impl AsRef<Path>],
    ) -> Result<(), Error> {
        let Self {
            mut messages,
            one_way,
        } = self;
        for include in includes {
            rerun_if_changed(include.as_ref());
        }
        let descriptors = protox::compile(protos, includes)?;
        messages.service_generator(Box::new(Generator { one_way }));
        messages.compile_fds(descriptors)?;
        Ok(())
    }
}

#[expect(
    clippy::print_stdout,
    reason = "this is how a build script speaks to cargo"
)]
fn rerun_if_changed(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
