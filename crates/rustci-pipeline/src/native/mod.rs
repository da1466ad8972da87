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
mod habits;
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
mod schedules;
mod schema;
mod scope;
mod step;
mod taint;
mod tiers;
mod triggers;
mod uses;

pub use schema::schema;

use std::collections::BTreeMap;
use std::rc::Rc;

use self::include::Library;
use crate::Parsed;
use crate::diagnostic::Diagnostic;
use crate::pipeline::Pipeline;
use crate::report::{self, Report};
use crate::shape::{fields, values};
use crate::yaml::{self, Node, Source};

/// The texts of other files of the project, by their paths from its root (`dir/file.yaml`).
pub type Files = BTreeMap<String, String>;

/// Reads a pipeline file that includes no others. `file` is its path in the repository, as
/// diagnostics name it.
///
/// Everything that is wrong is told at once. Keys of the format that this version cannot do only
/// matter when the pipeline is run: [`plan`](crate::plan()) tells them, or this where nothing is
/// left to plan; [`lint`] tells both.
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
        mut diagnostics,
        planning,
        ..
    } = read_file(file, text, files);
    if pipeline.is_none() {
        diagnostics.extend(planning);
        report::sort(&mut diagnostics, file);
    }
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

/// Whether a text is that of a template: a file with `inputs`, which only runs as a part of
/// pipelines.
#[must_use]
pub fn is_template(text: &str) -> bool {
    let mut report = Report::new(Source::new("", text));
    yaml::load(&mut report).is_ok_and(|root| root.get("inputs").is_some())
}

/// Everything there is to say about a template by itself. Jobs and steps are looked at with the
/// defaults of its inputs, and with an example where an input has none.
#[must_use]
pub fn lint_template(file: &str, text: &str, files: &Files) -> Vec<Diagnostic> {
    let mut report = Report::new(Source::new(file, text));
    let mut library = Library::new(file, files);
    if let Ok(root) = yaml::load(&mut report)
        && let Some(draft) = read::template(&mut report, &mut library, &root)
    {
        check::draft(&mut report, &draft);
    }
    let (mut diagnostics, planning) = report.finish();
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

/// The bad habits of a pipeline file: warnings on what runs and should better be written in another
/// way. What a comment allows (`# rustci: allow RC0605`) is left out.
#[must_use]
pub fn habits(file: &str, text: &str, files: &Files) -> Vec<Diagnostic> {
    let found = read_file(file, text, files).habits;
    habits::without_allowed(file, text, files, found)
}

struct Read {
    pipeline: Option<Pipeline>,
    diagnostics: Vec<Diagnostic>,
    planning: Vec<Diagnostic>,
    habits: Vec<Diagnostic>,
}

/// Reads a file and sorts what was found.
fn read_file(file: &str, text: &str, files: &Files) -> Read {
    let mut report = Report::new(Source::new(file, text));
    let mut library = Library::new(file, files);
    let mut habits = Vec::new();
    let lowered = yaml::load(&mut report)
        .ok()
        .and_then(|root| lower_tree(&mut report, &mut library, &mut habits, &root));
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
        habits,
    }
}

/// Lowers the tree of a file, whatever its dialect; bad habits go to `habits`.
fn lower_tree<'t>(
    report: &mut Report<'t>,
    library: &mut Library<'t>,
    habits: &mut Vec<Diagnostic>,
    root: &Rc<Node>,
) -> Option<Pipeline> {
    let (draft, rest) = if tiers::fits(root) {
        let (draft, rest) = tiers::draft(report, library, root)?;
        (draft, Some(rest))
    } else {
        (read::pipeline(report, library, root)?, None)
    };
    check::draft(report, &draft);
    let mut others = report.beside();
    habits::check(&mut others, root, &draft);
    (*habits, _) = others.finish();
    let mut pipeline = lower::pipeline(report, draft)?;
    if let Some(rest) = rest {
        rest.complete(&mut pipeline);
    }
    Some(pipeline)
}
