//! `rustci plan`.

use rustci_pipeline::PlanRequest;

use super::source::{load_all, refuse_errors};
use crate::args::PlanArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output, complain};
use crate::project::Project;
use crate::render::table;

/// Shows what a project's pipelines would run.
///
/// # Errors
/// [`Failure::InvalidFiles`] after all findings were printed.
pub(crate) fn plan(args: &PlanArgs, out: &mut Output) -> Result<Exit, Failure> {
    let project = Project::find_with(&args.path, args.file.as_deref())?;
    let sources = load_all(&project, &PlanRequest::default())?;
    let findings: String = sources
        .iter()
        .map(|source| source.render(out.look()))
        .collect();
    complain(&findings);
    let plans = sources
        .iter()
        .filter_map(|source| source.planned.as_ref())
        .map(|planned| &planned.plan);
    let texts: Vec<String> = match out.format() {
        Format::Json => plans.map(|plan| plan.to_canonical_json() + "\n").collect(),
        Format::Text => plans.map(|plan| table::plan(plan, out.look())).collect(),
    };
    let between = if out.format() == Format::Json {
        ""
    } else {
        "\n"
    };
    out.text(&texts.join(between))?;
    refuse_errors(&sources).map(|()| Exit::Success)
}
