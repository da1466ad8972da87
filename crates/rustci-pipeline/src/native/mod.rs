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
mod inputs;
mod job;
mod keys;
mod lower;
mod matrix;
mod names;
mod needs;
mod read;
mod schema;
mod scope;
mod step;
mod taint;
mod tiers;
mod triggers;

pub use schema::schema;

use crate::Parsed;
use crate::diagnostic::Diagnostic;
use crate::pipeline::Pipeline;
use crate::report::Report;
use crate::shape::{fields, values};
use crate::yaml::{self, Source};

/// Reads a pipeline file. `file` is its path in the repository, as diagnostics name it.
///
/// Everything that is wrong is told at once. Keys of the format that this version cannot do are
/// told by [`plan`](crate::plan()), as they only matter when the pipeline is run; [`lint`] tells
/// both.
#[must_use]
pub fn parse(file: &str, text: &str) -> Parsed {
    let Read {
        pipeline,
        diagnostics,
        ..
    } = read_file(file, text);
    Parsed {
        pipeline,
        diagnostics,
    }
}

/// Everything there is to say about a pipeline file, with what this version cannot do.
#[must_use]
pub fn lint(file: &str, text: &str) -> Vec<Diagnostic> {
    let Read {
        mut diagnostics,
        planning,
        ..
    } = read_file(file, text);
    diagnostics.extend(planning);
    diagnostics.sort_by_key(|found| (found.span.line, found.span.column, found.code));
    diagnostics
}

struct Read {
    pipeline: Option<Pipeline>,
    diagnostics: Vec<Diagnostic>,
    planning: Vec<Diagnostic>,
}

/// Reads a file and sorts what was found.
fn read_file(file: &str, text: &str) -> Read {
    let source = Source::new(file, text);
    let mut report = Report::new(&source);
    let lowered = yaml::load(&mut report).ok().and_then(|root| {
        if tiers::fits(&root) {
            return tiers::pipeline(&mut report, &root);
        }
        let draft = read::pipeline(&mut report, &root)?;
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
