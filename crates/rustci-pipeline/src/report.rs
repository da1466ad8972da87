//! Collects what is wrong with a file.

use std::ops::Range;
use std::rc::Rc;

use crate::diagnostic::{Code, Diagnostic, Severity, Span};
use crate::limits::DIAGNOSTICS_MAX;
use crate::yaml::{Node, Source};

/// The findings of a pipeline so far.
pub(crate) struct Report<'t> {
    /// The pipeline's own file.
    source: Rc<Source<'t>>,
    /// Files that it includes, in the order of their places.
    included: Vec<Rc<Source<'t>>>,
    found: Vec<Diagnostic>,
    /// Takes the words added to a finding that is over the limit.
    spare: Diagnostic,
}

impl<'t> Report<'t> {
    pub(crate) fn new(source: Source<'t>) -> Self {
        let spare = diagnostic(source.file, Code::SYNTAX, Severity::Error, Span::default());
        Self {
            source: Rc::new(source),
            included: Vec::new(),
            found: Vec::new(),
            spare,
        }
    }

    /// One without findings about the same files.
    pub(crate) fn beside(&self) -> Self {
        Self {
            source: Rc::clone(&self.source),
            included: self.included.clone(),
            found: Vec::new(),
            spare: self.spare.clone(),
        }
    }

    /// The pipeline's own file.
    pub(crate) fn source(&self) -> &Rc<Source<'t>> {
        &self.source
    }

    /// Adds a file that is included; its places are counted on from the last one.
    pub(crate) fn include(&mut self, file: &'t str, text: &'t str) -> Rc<Source<'t>> {
        let last = self.included.last().unwrap_or(&self.source);
        let source = Rc::new(Source::at(last.end(), file, text));
        self.included.push(Rc::clone(&source));
        source
    }

    /// The file of a place.
    pub(crate) fn source_of(&self, place: usize) -> &Source<'t> {
        if place < self.source.end() {
            return &self.source;
        }
        let index = self
            .included
            .partition_point(|source| source.end() <= place);
        self.included.get(index).unwrap_or(&self.source)
    }

    /// Where a part of a scalar's text stands.
    pub(crate) fn within(&self, node: &Node, part: Range<usize>) -> Range<usize> {
        self.source_of(node.at.start).within(node, part)
    }

    /// Adds an error; what to do about it can be added to the result.
    pub(crate) fn error(
        &mut self,
        code: Code,
        at: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.add(code, Severity::Error, at, message.into())
    }

    /// Adds a warning.
    pub(crate) fn warning(
        &mut self,
        code: Code,
        at: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.add(code, Severity::Warning, at, message.into())
    }

    /// Adds a finding unless it is there already or there are too many.
    fn add(
        &mut self,
        code: Code,
        severity: Severity,
        at: Range<usize>,
        message: String,
    ) -> &mut Diagnostic {
        if self.is_full() {
            return &mut self.spare;
        }
        let source = self.source_of(at.start);
        let (file, span) = (source.file, source.span(at));
        let repeated = self.found.iter().any(|known| {
            known.code == code
                && known.span == span
                && known.message == message
                && known.file == file
        });
        // What aliases bring is found wrong once for each of them, at the one place where it is.
        if repeated {
            return &mut self.spare;
        }
        let finding = Diagnostic {
            message,
            ..diagnostic(file, code, severity, span)
        };
        self.found.push(finding);
        self.found.last_mut().unwrap_or(&mut self.spare)
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.found.iter().filter(|found| found.is_error()).count()
    }

    /// Whether no more findings are taken, so that looking for them is a waste.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= DIAGNOSTICS_MAX
    }

    /// All findings in the order of the files; those that only matter for a run are the second.
    pub(crate) fn finish(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        sort(&mut self.found, self.source.file);
        self.found
            .into_iter()
            .partition(|found| !matches!(found.code, Code::NOT_YET | Code::IGNORED))
    }
}

/// Puts findings in order: first those in the pipeline's own file.
pub(crate) fn sort(found: &mut [Diagnostic], own: &str) {
    found.sort_by(|a, b| {
        let key = |it: &Diagnostic| (it.span.line, it.span.column, it.code);
        let place = (a.file != own, &a.file).cmp(&(b.file != own, &b.file));
        place.then_with(|| key(a).cmp(&key(b)))
    });
}

/// A finding without words.
fn diagnostic(file: &str, code: Code, severity: Severity, span: Span) -> Diagnostic {
    Diagnostic {
        code,
        severity,
        file: file.to_owned(),
        span,
        message: String::new(),
        help: None,
        nearest: None,
    }
}

impl Diagnostic {
    /// Adds what to do.
    pub(crate) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Adds the name that was probably meant.
    pub(crate) fn nearest(&mut self, name: Option<&str>) -> &mut Self {
        self.nearest = name.map(str::to_owned);
        self
    }
}
