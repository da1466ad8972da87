//! Standard output: where it goes, how wide it is, and what is on the screen now.

use std::io::{self, IsTerminal, Write};

use rustix::termios;
use serde::Serialize;

use crate::args::OutputArgs;
use crate::failure::Failure;
use crate::render::job::Look;
use crate::render::style::{Colour, Sink};
use crate::render::text::width;

/// Columns of lines in files.
const FILE_COLUMNS: usize = 80;
/// Lines are erased one by one: some terminals keep in their history what an erased screen held.
const ERASE_LINE: &str = "\u{1b}[K";
/// Size of a terminal that does not tell.
const UNKNOWN_SIZE: (usize, usize) = (80, 24);

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    sink: Sink,
    colour: Colour,
    format: Format,
    /// Widths of the lines that the next picture replaces.
    picture: Vec<usize>,
}

/// For whom output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Output {
    /// Looks at standard output, the arguments and the environment.
    pub(crate) fn new(args: &OutputArgs) -> Self {
        let moves_cursor = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let sink = match io::stdout().is_terminal() && moves_cursor {
            true => Sink::Terminal,
            false => Sink::Stream,
        };
        let no_color = std::env::var("NO_COLOR").ok();
        let colour = Colour::choose(args.color, sink, no_color.as_deref());
        let format = if args.json {
            Format::Json
        } else {
            Format::Text
        };
        Self {
            sink,
            colour,
            format,
            picture: Vec::new(),
        }
    }

    /// For whom to write.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Where it goes.
    pub(crate) fn sink(&self) -> Sink {
        self.sink
    }

    /// Colours and columns of now; a terminal may have been resized.
    pub(crate) fn look(&self) -> Look {
        Look {
            colour: self.colour,
            columns: self.size().0,
            sink: self.sink,
        }
    }

    /// Columns and rows.
    pub(crate) fn size(&self) -> (usize, usize) {
        if self.sink == Sink::Stream {
            return (FILE_COLUMNS, usize::MAX);
        }
        match termios::tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            _ => UNKNOWN_SIZE,
        }
    }

    /// Writes text as it is.
    ///
    /// # Errors
    /// [`Failure::OutputClosed`] when nobody reads any more.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        write(text)
    }

    /// Writes one line of JSON.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value)
            .map_err(|error| Failure::engine("cannot write JSON", error))?;
        write(&(line + "\n"))
    }

    /// Replaces the last picture by this one.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub(crate) fn draw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let columns = self.size().0.max(1);
        let mut text = String::from("\u{1b}[?2026h\u{1b}[?25l");
        text.push_str(&up(self.rows(columns)));
        for line in lines {
            text.push_str(ERASE_LINE);
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("\u{1b}[J\u{1b}[?2026l");
        self.picture = lines.iter().map(|line| width(line)).collect();
        write(&text)
    }

    /// Takes the last picture away and shows the cursor again.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub(crate) fn clear(&mut self) -> Result<(), Failure> {
        if self.picture.is_empty() {
            return Ok(());
        }
        let rows = self.rows(self.size().0.max(1));
        let blank = format!("{ERASE_LINE}\n").repeat(rows);
        let text = up(rows) + &blank + &up(rows) + "\u{1b}[?25h";
        self.picture.clear();
        write(&text)
    }

    /// Rows of the picture. Lines that a narrower terminal has wrapped since count as what they
    /// are now.
    fn rows(&self, columns: usize) -> usize {
        let rows = |wide: &usize| wide.div_ceil(columns).max(1);
        self.picture.iter().map(rows).sum()
    }
}

/// Moves to the start of the line, `rows` further up.
fn up(rows: usize) -> String {
    match rows {
        0 => String::new(),
        rows => format!("\r\u{1b}[{rows}A"),
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.picture.is_empty() {
            // The program is about to end; there is nobody left to tell.
            let _ = write("\u{1b}[?25h");
        }
    }
}

/// Writes to standard error; when that is closed there is nothing left to do.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
        Err(error) => Err(Failure::io("write to standard output")(error)),
    }
}
