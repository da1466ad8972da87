//! Standard output: for whom, how wide, in which colours.

use std::io::{self, IsTerminal, Write};

use rustix::termios;
use serde::Serialize;

use crate::args::OutputArgs;
use crate::failure::Failure;
use crate::style::{Colour, Sink};

/// Columns of lines in files.
const FILE_COLUMNS: usize = 80;
/// Size of a terminal that does not tell.
const UNKNOWN_SIZE: (usize, usize) = (80, 24);

/// For whom output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    sink: Sink,
    colour: Colour,
    format: Format,
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
        Self {
            sink,
            colour: Colour::choose(args.color, sink, no_color.as_deref()),
            format: match args.json {
                true => Format::Json,
                false => Format::Text,
            },
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

    /// Whether in colours.
    pub(crate) fn colour(&self) -> Colour {
        self.colour
    }

    /// Columns and rows of now; a terminal may have been resized.
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
        self.bytes(text.as_bytes())
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::OutputClosed),
            Err(error) => Err(Failure::io("write to standard output")(error)),
        }
    }

    /// Writes one line of JSON.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(|error| Failure::Io {
            doing: "write JSON".to_owned(),
            cause: error.into(),
        })?;
        self.text(&(line + "\n"))
    }
}

/// Writes to standard error; when that is closed there is nothing left to do.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
