//! The native dialect: `.rustci.yaml` and `.rustci/*.yaml`.

use crate::diagnostic::{Code, Diagnostic, Severity, Span};
use crate::{Parsed, limits};

/// Reads a pipeline file. `file` is its path in the repository, as diagnostics name it.
#[must_use]
pub fn parse(file: &str, text: &str) -> Parsed {
    let diagnostic = Diagnostic {
        code: Code::SIZE,
        severity: Severity::Error,
        file: file.to_owned(),
        span: Span {
            line: 1,
            column: 1,
            len: 1,
        },
        message: format!("{} bytes of {} read", text.len(), limits::FILE_BYTES_MAX),
        help: None,
        nearest: None,
    };
    Parsed {
        pipeline: None,
        diagnostics: vec![diagnostic],
    }
}
