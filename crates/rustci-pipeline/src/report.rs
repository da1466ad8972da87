//! Collects what is wrong with a file.

use std::ops::Range;

use crate::diagnostic::{Code, Diagnostic, Severity, Span};
use crate::limits::DIAGNOSTICS_MAX;
use crate::yaml::Source;

/// The findings of one file so far.
pub(crate) struct Report<'t> {
    source: &'t Source<'t>,
    found: Vec<Diagnostic>,
    /// Takes the words added to a finding that is over the limit.
    spare: Diagnostic,
}

impl<'t> Report<'t> {
    pub(crate) fn new(source: &'t Source<'t>) -> Self {
        let spare = diagnostic(source, Code::SYNTAX, Severity::Error, Span::default());
        Self {
            source,
            found: Vec::new(),
            spare,
        }
    }

    pub(crate) fn source(&self) -> &'t Source<'t> {
        self.source
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
        let span = self.source.span(at);
        let repeated = self
            .found
            .iter()
            .any(|known| known.code == code && known.span == span && known.message == message);
        // What aliases bring is found wrong once for each of them, at the one place where it is.
        if repeated {
            return &mut self.spare;
        }
        let finding = Diagnostic {
            message,
            ..diagnostic(self.source, code, severity, span)
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

    /// All findings in the order of the file; those that only matter for a run are the second.
    pub(crate) fn finish(mut self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        self.found
            .sort_by_key(|found| (found.span.line, found.span.column, found.code));
        self.found
            .into_iter()
            .partition(|found| found.code < Code::NOT_YET)
    }
}

/// A finding without words.
fn diagnostic(source: &Source<'_>, code: Code, severity: Severity, span: Span) -> Diagnostic {
    Diagnostic {
        code,
        severity,
        file: source.file.to_owned(),
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
