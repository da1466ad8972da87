//! The native dialect: `.rustci.yaml` and `.rustci/*.yaml`.
//!
//! Reading goes in three steps, each of which goes on after a mistake so that all are told at once:
//! [`read`] turns the tree into a [`draft`] and checks shapes, [`check`] looks at everything that
//! needs the whole file (needs, expressions), [`lower`] makes the plan.

mod check;
mod data;
mod draft;
mod dynamic;
mod gates;
mod given;
mod include;
mod inputs;
mod job;
mod keys;
mod lower;
mod matrix;
mod names;
mod needs;
mod path;
mod read;
mod schema;
mod scope;
mod step;
mod taint;
mod tiers;
mod triggers;
mod uses;

pub use schema::schema;

use std::collections::BTreeMap;

use self::include::Library;
use crate::Parsed;
use crate::diagnostic::Diagnostic;
use crate::pipeline::Pipeline;
use crate::report::{self, Report};
use crate::shape::{fields, values};
use crate::yaml::{self, Source};

/// The texts of other files of the project, by their paths from its root (`dir/file.yaml`).
pub type Files = BTreeMap<String, String>;

/// Reads a pipeline file that includes no others. `file` is its path in the repository, as
/// diagnostics name it.
///
/// Everything that is wrong is told at once. Keys of the format that this version cannot do are
/// told by [`plan`](crate::plan()), as they only matter when the pipeline is run; [`lint`] tells
/// both.
#[must_use]
pub fn parse(file: &str, text: &str) -> Parsed {
    parse_with(file, text, &Files::new())
}

/// Reads a pipeline file and those of `files` that it includes; [`included`] tells which those
/// are.
#[must_use]
pub fn parse_with(file: &str, text: &str, files: &Files) -> Parsed {
    let Read {
        pipeline,
        diagnostics,
        ..
    } = read_file(file, text, files);
    Parsed {
        pipeline,
        diagnostics,
    }
}

/// Everything there is to say about a pipeline file, with what this version cannot do.
#[must_use]
pub fn lint(file: &str, text: &str) -> Vec<Diagnostic> {
    lint_with(file, text, &Files::new())
}

/// The same for a file that includes others.
#[must_use]
pub fn lint_with(file: &str, text: &str, files: &Files) -> Vec<Diagnostic> {
    let Read {
        mut diagnostics,
        planning,
        ..
    } = read_file(file, text, files);
    diagnostics.extend(planning);
    report::sort(&mut diagnostics, file);
    diagnostics
}

/// The paths of the files that a text includes, or whose jobs it uses. What those include is not
/// among them. Empty when the text cannot be read, and without paths that lead out of the project.
#[must_use]
pub fn included(text: &str) -> Vec<String> {
    let mut report = Report::new(Source::new("", text));
    yaml::load(&mut report)
        .ok()
        .map(|root| include::named(&root))
        .unwrap_or_default()
}

struct Read {
    pipeline: Option<Pipeline>,
    diagnostics: Vec<Diagnostic>,
    planning: Vec<Diagnostic>,
}

/// Reads a file and sorts what was found.
fn read_file(file: &str, text: &str, files: &Files) -> Read {
    let mut report = Report::new(Source::new(file, text));
    let mut library = Library::new(file, files);
    let lowered = yaml::load(&mut report).ok().and_then(|root| {
        if tiers::fits(&root) {
            return tiers::pipeline(&mut report, &root);
        }
        let draft = read::pipeline(&mut report, &mut library, &root)?;
        check::draft(&mut report, &draft);
        lower::pipeline(&mut report, draft)
    });
    let (diagnostics, planning) = report.finish();
    let broken = diagnostics.iter().any(Diagnostic::is_error);
    let pipeline = lowered.filter(|_| !broken).map(|lowered| Pipeline {
        planning: planning.clone(),
        ..lowered
    });
    Read {
        pipeline,
        diagnostics,
        planning,
    }
}
