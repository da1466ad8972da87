//! Reads the reports that a job's steps wrote, when the steps are over.

use std::fs;
use std::io::{self, BufReader};
use std::path::Path;
use std::rc::Rc;

use rustci_pipeline::glob::{Glob, list_fits};
use rustci_pipeline::v1;
use valkyrie_frame::LogChannel;

use super::outgoing::Outgoing;
use super::step_files;
use super::supervisor::{JOB_STEP, Supervisor};
use crate::limits::{REPORT_FILES_MAX, REPORT_WARNINGS_MAX, WORKSPACE_DEPTH_MAX};
use crate::log::Patterns;
use crate::report::{Report, junit};

/// Reads every report that the job asked for. What is wrong with one is said in the log and in the
/// report, and fails nothing.
///
/// # Errors
/// When the directory of the attempt cannot be written.
pub(crate) fn collect(
    specs: &[v1::ReportSpec],
    workspace: &Path,
    supervisor: &mut Supervisor,
    outgoing: &mut Outgoing,
) -> io::Result<Vec<v1::StoredReport>> {
    let mut stored = Vec::new();
    for spec in specs {
        supervisor.log.learn();
        let read = Read::of(spec, workspace, supervisor.log.patterns());
        let report = read.store(spec, outgoing)?;
        say(&report, supervisor);
        stored.push(report);
    }
    Ok(stored)
}

/// What the files of one report hold.
struct Read {
    report: Report,
    warnings: Vec<String>,
}

impl Read {
    fn of(spec: &v1::ReportSpec, workspace: &Path, patterns: &Rc<Patterns>) -> Self {
        let mut read = Self {
            report: Report::new(Rc::clone(patterns)),
            warnings: Vec::new(),
        };
        if spec.kind != "junit" {
            read.warn(
                patterns,
                format!(
                    "reports of kind {:?} are not known to this runner",
                    spec.kind
                ),
            );
            return read;
        }
        match files(&spec.paths, workspace) {
            Ok(files) => read.files(workspace, &files, patterns),
            Err(error) => read.warn(patterns, error),
        }
        if read.report.left_out() > 0 {
            let text = format!(
                "{} tests are counted but not listed: there are more tests or texts than fit a report",
                read.report.left_out()
            );
            read.warn(patterns, text);
        }
        read
    }

    fn files(&mut self, workspace: &Path, files: &[String], patterns: &Rc<Patterns>) {
        if files.is_empty() {
            self.warn(patterns, "no file fits; do the tests write one?".to_owned());
        }
        if files.len() > REPORT_FILES_MAX {
            let text = format!(
                "{} files fit; only the first {REPORT_FILES_MAX} are read",
                files.len()
            );
            self.warn(patterns, text);
        }
        for file in files.iter().take(REPORT_FILES_MAX) {
            let opened = step_files::open(&workspace.join(file)).map(BufReader::new);
            let read = match opened {
                Ok(input) => {
                    junit::read(input, &mut self.report).map_err(|error| error.to_string())
                }
                Err(error) => Err(format!("it cannot be read: {error}")),
            };
            if let Err(reason) = read {
                self.warn(patterns, format!("{file}: {reason}"));
            }
        }
    }

    fn warn(&mut self, patterns: &Rc<Patterns>, text: String) {
        if self.warnings.len() < REPORT_WARNINGS_MAX {
            self.warnings.push(patterns.mask(&text));
        }
    }

    fn store(self, spec: &v1::ReportSpec, outgoing: &mut Outgoing) -> io::Result<v1::StoredReport> {
        let totals = self.report.totals();
        let bytes = prost::Message::encode_to_vec(&self.report.into_message());
        Ok(v1::StoredReport {
            kind: spec.kind.clone(),
            digest: outgoing.add_blob(&bytes)?.to_vec(),
            bytes: bytes.len() as u64,
            tests: totals.tests,
            failures: totals.failures,
            errors: totals.errors,
            skipped: totals.skipped,
            duration_ms: totals.duration_us / 1000,
            warnings: self.warnings,
        })
    }
}

fn say(report: &v1::StoredReport, supervisor: &mut Supervisor) {
    let mut texts = vec![format!(
        "tests: {} in the report, {} failed, {} skipped",
        report.tests,
        report.failures + report.errors,
        report.skipped
    )];
    let warnings = report.warnings.iter();
    texts.extend(warnings.map(|warning| format!("report: {warning}")));
    for text in texts {
        supervisor.log.say(JOB_STEP, LogChannel::SYSTEM, &text);
    }
}

/// The files of the workspace that fit, in the order of their paths.
fn files(patterns: &[String], workspace: &Path) -> Result<Vec<String>, String> {
    let globs = patterns.iter().map(|pattern| Glob::parse(pattern));
    let globs = globs.collect::<Result<Vec<_>, _>>()?;
    let mut files = Vec::new();
    list(workspace, "", 0, &mut |path| {
        if list_fits(&globs, &path) {
            files.push(path);
        }
    })
    .map_err(|error| format!("the workspace cannot be read: {error}"))?;
    files.sort();
    Ok(files)
}

/// Links are not followed: a report lies in the workspace.
fn list(
    directory: &Path,
    prefix: &str,
    depth: usize,
    found: &mut impl FnMut(String),
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_file() {
            found(path);
        } else if kind.is_dir() && depth < WORKSPACE_DEPTH_MAX {
            list(&entry.path(), &format!("{path}/"), depth + 1, found)?;
        }
    }
    Ok(())
}
