//! `rustci lint`.

use std::path::Path;

use rustci_pipeline::PlanRequest;
use serde_json::json;

use super::source::{Kind, Source, refuse_errors, refuse_warnings};
use crate::args::LintArgs;
use crate::exit::Exit;
use crate::failure::{Failure, plural};
use crate::output::{Format, Output};
use crate::project::{self, Project};
use crate::render::sarif::sarif;

/// Checks all pipeline files below the paths.
///
/// # Errors
/// [`Failure::InvalidFiles`] and [`Failure::WarningsDenied`] after all findings were printed.
pub(crate) fn lint(args: &LintArgs, out: &mut Output) -> Result<Exit, Failure> {
    let mut sources = Vec::new();
    for path in &args.paths {
        let projects = project::all_below(path)?;
        if projects.is_empty() {
            return Err(Failure::NoPipeline {
                looked: vec![path.join("**/.rustci/*.yaml"), path.join("**/.rustci.yaml")],
            });
        }
        for project in &projects {
            for file in &project.files {
                sources.push(load(project, file)?);
            }
        }
    }
    for source in &mut sources {
        source.add_habits();
    }
    match out.format() {
        _ if args.sarif => report_sarif(&sources, out)?,
        Format::Json => report_json(&sources, out)?,
        Format::Text => report(&sources, out)?,
    }
    refuse_errors(&sources)?;
    if args.deny_warnings {
        refuse_warnings(&sources)?;
    }
    Ok(Exit::Success)
}

/// A pipeline; or a template, when it is named and not found as a pipeline.
fn load(project: &Project, file: &Path) -> Result<Source, Failure> {
    let source = Source::load(project, file, &PlanRequest::default())?;
    if !project.finds(file) && rustci_pipeline::is_template(&source.text) {
        return Source::load_template(project, file);
    }
    Ok(source)
}

fn report_sarif(sources: &[Source], out: &mut Output) -> Result<(), Failure> {
    let found = sources.iter().flat_map(|source| &source.diagnostics);
    out.text(&format!("{:#}\n", sarif(found)))
}

fn report(sources: &[Source], out: &mut Output) -> Result<(), Failure> {
    let look = out.look();
    let findings: String = sources.iter().map(|source| source.render(look)).collect();
    out.text(&findings)?;
    let good = sources.iter().filter(|source| source.errors() == 0);
    let lines: String = good
        .map(|source| {
            let warnings = source.diagnostics.len();
            let jobs = source
                .planned
                .as_ref()
                .map_or(0, |planned| planned.plan.jobs.len());
            let more = match warnings {
                0 => String::new(),
                n => format!(", {n} {}", plural(n, "warning")),
            };
            let what = match source.kind {
                Kind::Pipeline => format!("{jobs} {}", plural(jobs, "job")),
                Kind::Template => "a template".to_owned(),
            };
            let ok = look.colour.green("ok");
            format!("{ok}  {}: {what}{more}\n", source.shown)
        })
        .collect();
    out.text(&lines)
}

fn report_json(sources: &[Source], out: &mut Output) -> Result<(), Failure> {
    for source in sources {
        let digest = source
            .planned
            .as_ref()
            .map(|planned| planned.plan.digest().to_string());
        out.json(&json!({
            "file": source.shown,
            "valid": source.errors() == 0,
            "digest": digest,
            "diagnostics": source.diagnostics,
        }))?;
    }
    Ok(())
}
