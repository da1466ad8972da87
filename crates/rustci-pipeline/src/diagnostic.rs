//! What is wrong with a pipeline file, where, and what to do about it.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub use crate::codes::Code;

/// Whether a run can be made in spite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be run.
    Error,
    /// The file runs, without what the message names.
    Warning,
}

/// A place in a file, of one line.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Span {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// In characters, at least 1 when something is to be marked.
    pub len: u32,
}

/// One finding in a pipeline file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Stable over versions; explained in `docs/pipelines.md`.
    pub code: Code,
    /// Whether it stops the run.
    pub severity: Severity,
    /// The file as it was named by the caller.
    pub file: String,
    /// What the caret marks.
    pub span: Span,
    /// What is wrong: lower case, one line.
    pub message: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The valid name that was probably meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

/// Whether a rendering uses terminal colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    #[default]
    Off,
    /// ANSI escapes.
    On,
}

impl Diagnostic {
    /// Whether this stops a run.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The finding for a terminal: message, `file:line:column`, the line itself with a caret, help.
    ///
    /// `text` is the file's content; with another text only the excerpt is wrong. Ends with a
    /// newline.
    #[must_use]
    pub fn render(&self, text: &str, colour: Colour) -> String {
        let paint = Paint { colour };
        let mut out = String::new();
        let (word, style) = match self.severity {
            Severity::Error => ("error", RED),
            Severity::Warning => ("warning", YELLOW),
        };
        let title = paint.with(style, &format!("{word}[{}]", self.code));
        let _ = writeln!(
            out,
            "{title}{} {}",
            paint.with(BOLD, ":"),
            paint.with(BOLD, &self.message)
        );
        let Span { line, column, .. } = self.span;
        let width = line.to_string().len();
        let gutter = " ".repeat(width);
        let arrow = paint.with(BLUE, "-->");
        let _ = writeln!(out, "{gutter}{arrow} {}:{line}:{column}", self.file);
        self.render_excerpt(text, &gutter, paint, style, &mut out);
        for note in self.notes() {
            let _ = writeln!(out, "{gutter} {} {note}", paint.with(BLUE, "="));
        }
        out
    }

    /// The line of the file with its number, and the marks under it.
    fn render_excerpt(
        &self,
        text: &str,
        gutter: &str,
        paint: Paint,
        style: &str,
        out: &mut String,
    ) {
        let index = usize::try_from(self.span.line)
            .unwrap_or(0)
            .saturating_sub(1);
        let Some(line) = text.lines().nth(index) else {
            return;
        };
        let (line, before, marked) = self.window(line);
        let bar = paint.with(BLUE, "|");
        let number = paint.with(BLUE, &self.span.line.to_string());
        let caret = paint.with(style, &"^".repeat(marked.max(1)));
        let _ = writeln!(out, "{gutter} {bar}");
        let _ = writeln!(out, "{number} {bar} {line}");
        let _ = writeln!(out, "{gutter} {bar} {}{caret}", " ".repeat(before));
    }

    /// The part of the line that is shown, the width before the mark, and the mark's width.
    fn window(&self, line: &str) -> (String, usize, usize) {
        let clean: Vec<char> = line.chars().map(visible).collect();
        let column = usize::try_from(self.span.column)
            .unwrap_or(1)
            .saturating_sub(1)
            .min(clean.len());
        let len = usize::try_from(self.span.len)
            .unwrap_or(0)
            .min(clean.len() - column);
        let first = column.saturating_sub(CONTEXT_BEFORE);
        let shown: String = clean.iter().skip(first).take(SHOWN_MAX).collect();
        let before: String = clean.iter().skip(first).take(column - first).collect();
        let marked: String = clean
            .iter()
            .skip(column)
            .take(len.min(SHOWN_MAX - (column - first)))
            .collect();
        let shown = if first > 0 {
            format!("…{shown}")
        } else {
            shown
        };
        let shift = usize::from(first > 0);
        (
            shown.trim_end().to_owned(),
            before.width() + shift,
            marked.width(),
        )
    }

    /// The lines behind the excerpt.
    fn notes(&self) -> impl Iterator<Item = String> {
        let nearest = self
            .nearest
            .as_ref()
            .map(|name| format!("help: did you mean `{name}`?"));
        let help = self.help.as_ref().map(|help| format!("help: {help}"));
        nearest.into_iter().chain(help)
    }
}

/// Renders all findings one after the other, with a line that counts them at the end.
#[must_use]
pub fn render_all(diagnostics: &[Diagnostic], text: &str, colour: Colour) -> String {
    render_files(diagnostics, |_| text, colour)
}

/// The same for findings of several files; `text` has the content of each.
#[must_use]
pub fn render_files<'t>(
    diagnostics: &[Diagnostic],
    text: impl Fn(&str) -> &'t str,
    colour: Colour,
) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&diagnostic.render(text(&diagnostic.file), colour));
        out.push('\n');
    }
    let errors = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .count();
    let counts = [(errors, "error"), (diagnostics.len() - errors, "warning")];
    let words: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    if !words.is_empty() {
        let _ = writeln!(out, "{}", words.join(", "));
    }
    out
}

// A line of 80 columns holds the excerpt with its gutter; minified files stay readable.
const SHOWN_MAX: usize = 100;
const CONTEXT_BEFORE: usize = 60;

const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const BLUE: &str = "1;34";
const BOLD: &str = "1";

#[derive(Clone, Copy)]
struct Paint {
    colour: Colour,
}

impl Paint {
    fn with(self, style: &str, text: &str) -> String {
        match self.colour {
            Colour::Off => text.to_owned(),
            Colour::On => format!("\x1b[{style}m{text}\x1b[0m"),
        }
    }
}

// A file from a stranger must not send escapes to the terminal; a tab is one column, like the mark.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() || c.width().is_none() => '\u{fffd}',
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    }
}
