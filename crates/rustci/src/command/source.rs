//! Pipeline files: reading, checking and planning them, with all findings at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustci_pipeline::diagnostic;
use rustci_pipeline::limits::DIAGNOSTICS_MAX;
use rustci_pipeline::{Decoded, Diagnostic, Files, Pipeline, PlanRequest, Planned};

use crate::failure::{Failure, plural};
use crate::project::Project;
use crate::render::job::Look;
use crate::render::style::{Colour, Sink};
use crate::render::text::{Keep, clean, width, wrap};

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pipeline,
    /// A file that pipelines include.
    Template,
}

/// What a file is read as.
#[derive(Clone, Copy)]
enum Reading<'r> {
    Pipeline(&'r PlanRequest),
    Template,
}

/// What reading gave.
#[derive(Default)]
struct Read {
    pipeline: Option<Pipeline>,
    planned: Option<Planned>,
    diagnostics: Vec<Diagnostic>,
}

impl Read {
    fn only(diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            diagnostics,
            ..Self::default()
        }
    }
}

impl Reading<'_> {
    fn kind(self) -> Kind {
        match self {
            Self::Pipeline(_) => Kind::Pipeline,
            Self::Template => Kind::Template,
        }
    }

    fn read(self, name: &str, text: &str, includes: &Files) -> Read {
        let Self::Pipeline(request) = self else {
            return Read::only(rustci_pipeline::lint_template(name, text, includes));
        };
        let parsed = rustci_pipeline::parse_with(name, text, includes);
        let mut diagnostics = parsed.diagnostics;
        let plan = |pipeline| rustci_pipeline::plan(pipeline, request);
        let planned = match parsed.pipeline.as_ref().map(plan) {
            Some(Ok(planned)) => {
                diagnostics.extend(planned.diagnostics.iter().cloned());
                Some(planned)
            }
            Some(Err(refused)) => {
                diagnostics.extend(refused.into_diagnostics());
                None
            }
            None => None,
        };
        Read {
            pipeline: parsed.pipeline,
            planned,
            diagnostics,
        }
    }
}

/// A pipeline file and what became of it.
#[derive(Debug)]
pub(crate) struct Source {
    /// What it is for.
    pub(crate) kind: Kind,
    /// Relative to its project.
    pub(crate) file: PathBuf,
    /// The project's directory.
    root: PathBuf,
    /// How people find it from where they are.
    pub(crate) shown: String,
    /// What is in it.
    pub(crate) text: String,
    /// The files that it includes, by their paths in the project.
    pub(crate) includes: Files,
    /// The texts of all of them, by how people find them.
    texts: BTreeMap<String, String>,
    /// What was read, if it could be.
    pub(crate) pipeline: Option<Pipeline>,
    /// The plan, if there are no errors.
    pub(crate) planned: Option<Planned>,
    /// All findings.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

impl Source {
    /// Reads, checks and plans `file` of `project`.
    ///
    /// # Errors
    /// A file that cannot be read. What is wrong in it is in `diagnostics`.
    pub(crate) fn load(
        project: &Project,
        file: &Path,
        request: &PlanRequest,
    ) -> Result<Self, Failure> {
        Self::load_as(project, file, Reading::Pipeline(request))
    }

    /// Reads and checks a template by itself.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn load_template(project: &Project, file: &Path) -> Result<Self, Failure> {
        Self::load_as(project, file, Reading::Template)
    }

    fn load_as(project: &Project, file: &Path, reading: Reading<'_>) -> Result<Self, Failure> {
        let path = project.root.join(file);
        let bytes = fs::read(&path).map_err(Failure::io(format!("read {}", path.display())))?;
        // The name in the plan, and thereby the digest, must not depend on where somebody stands.
        let name = file.to_string_lossy();
        let Decoded { text, error } = rustci_pipeline::decode(&name, bytes);
        let (includes, more) = project.included(&text);
        let undecoded: Vec<Diagnostic> = error.into_iter().chain(more).collect();
        let Read {
            pipeline,
            planned,
            mut diagnostics,
        } = if undecoded.is_empty() {
            reading.read(&name, &text, &includes)
        } else {
            // What else is in it is not what its author wrote.
            Read::only(undecoded)
        };
        for diagnostic in &mut diagnostics {
            diagnostic.file = shown(&project.root.join(&diagnostic.file));
        }
        let others = includes.iter();
        let others = others.map(|(path, text)| (shown(&project.root.join(path)), text.clone()));
        let shown = shown(&path);
        let texts = others.chain([(shown.clone(), text.clone())]).collect();
        Ok(Self {
            kind: reading.kind(),
            file: file.to_owned(),
            shown,
            text,
            includes,
            texts,
            root: project.root.clone(),
            pipeline,
            planned,
            diagnostics,
        })
    }

    /// Where each step begins, as `file:line`, by job id and number of the step.
    pub(crate) fn step_places(&self) -> BTreeMap<(String, u32), String> {
        let Some((pipeline, planned)) = self.pipeline.as_ref().zip(self.planned.as_ref()) else {
            return BTreeMap::new();
        };
        let steps = planned
            .plan
            .jobs
            .iter()
            .flat_map(|job| (0..job.steps.len()).map(move |at| (job, at)));
        let places = steps.filter_map(|(job, at)| {
            let (file, line) = pipeline.step_place(&job.id, at)?;
            let file = shown(&self.root.join(file));
            Some((
                (job.id.clone(), u32::try_from(at).ok()?),
                format!("{file}:{line}"),
            ))
        });
        places.collect()
    }

    /// The text of the file that a finding names.
    fn text_of(&self, shown: &str) -> &str {
        self.texts.get(shown).unwrap_or(&self.text)
    }

    /// Adds the warnings of bad habits, in the order of the files. Templates have those of the
    /// pipelines that include them.
    pub(crate) fn add_habits(&mut self) {
        if self.kind == Kind::Template {
            return;
        }
        let name = self.file.to_string_lossy();
        let mut found = rustci_pipeline::habits(&name, &self.text, &self.includes);
        for diagnostic in &mut found {
            diagnostic.file = shown(&self.root.join(&diagnostic.file));
        }
        self.diagnostics.extend(found);
        let own = &self.shown;
        self.diagnostics.sort_by(|a, b| {
            let key = |it: &Diagnostic| (it.span.line, it.span.column, it.code);
            let place = (a.file != *own, &a.file).cmp(&(b.file != *own, &b.file));
            place.then_with(|| key(a).cmp(&key(b)))
        });
    }

    /// How many findings are errors.
    pub(crate) fn errors(&self) -> usize {
        self.diagnostics
            .iter()
            .filter(|found| found.is_error())
            .count()
    }

    /// The findings for people; empty if there are none.
    pub(crate) fn render(&self, look: Look) -> String {
        let colour = match look.colour {
            Colour::On => diagnostic::Colour::On,
            Colour::Off => diagnostic::Colour::Off,
        };
        let rendered = self
            .diagnostics
            .iter()
            .map(|found| found.render(self.text_of(&found.file), colour) + "\n")
            .collect::<String>();
        match look.sink {
            Sink::Terminal => wrap_words(&rendered, look.columns),
            Sink::Stream => rendered,
        }
    }
}

/// Breaks headings and lines of help that are too long between words, and indents what follows.
fn wrap_words(text: &str, columns: usize) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let plain = clean(line.trim_end_matches('\n'), Keep::Text);
        let is_title = ["error[", "warning["]
            .iter()
            .any(|word| plain.starts_with(word));
        let indent = match is_title {
            true => "\n  ",
            false => "\n          ",
        };
        let has_words = is_title || plain.trim_start().starts_with("= help: ");
        if has_words && width(&plain) > columns {
            wrap(line, columns.saturating_sub(indent.len())).join(indent)
        } else {
            line.to_owned()
        }
    });
    lines.collect()
}

/// Loads all files of a project.
///
/// # Errors
/// As [`Source::load`].
pub(crate) fn load_all(project: &Project, request: &PlanRequest) -> Result<Vec<Source>, Failure> {
    project
        .files
        .iter()
        .map(|file| Source::load(project, file, request))
        .collect()
}

/// That some of `sources` have errors, if they do.
pub(crate) fn refuse_errors(sources: &[Source]) -> Result<(), Failure> {
    let errors = sources.iter().map(Source::errors).sum();
    let bad: Vec<&str> = sources
        .iter()
        .filter(|source| source.errors() > 0)
        .map(|s| s.shown.as_str())
        .collect();
    let files = match bad.as_slice() {
        [] => return Ok(()),
        [file] => (*file).to_owned(),
        files => format!("{} {}", files.len(), plural(files.len(), "file")),
    };
    let more = match sources
        .iter()
        .any(|source| source.errors() >= DIAGNOSTICS_MAX)
    {
        true => format!("; after {DIAGNOSTICS_MAX} in one file the rest is left out"),
        false => String::new(),
    };
    Err(Failure::InvalidFiles {
        errors,
        files,
        more,
    })
}

/// That some of `sources` have warnings, if they do.
pub(crate) fn refuse_warnings(sources: &[Source]) -> Result<(), Failure> {
    match sources.iter().map(|source| source.diagnostics.len()).sum() {
        0 => Ok(()),
        warnings => Err(Failure::WarningsDenied { warnings }),
    }
}

/// `path` relative to the working directory where it is below it.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir()
        .and_then(|here| here.canonicalize())
        .unwrap_or_default();
    let relative = path
        .strip_prefix(&here)
        .ok()
        .filter(|rest| !rest.as_os_str().is_empty());
    relative.unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_help_breaks_between_words_and_source_lines_stay() {
        let text = "3 |   # = help: one two three four\n  = help: one two three four\n";
        assert_eq!(
            wrap_words(text, 24),
            "3 |   # = help: one two three four\n  = help: one\n          two three\n          four\n"
        );
        assert_eq!(wrap_words(text, 40), text);
        assert_eq!(
            wrap_words("warning[RC0605]: one two three four\n --> a.yaml:1:1\n", 24),
            "warning[RC0605]: one\n  two three four\n --> a.yaml:1:1\n"
        );
    }
}
