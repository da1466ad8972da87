//! The whole terminal, as long as a live view needs it.

use std::io::{self, Write};

use crate::failure::Failure;

/// The other screen of the terminal; the first one is back when this is dropped.
#[derive(Debug)]
pub(crate) struct Screen(());

impl Screen {
    /// Takes the terminal, without its cursor.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(crate) fn open() -> Result<Self, Failure> {
        write("\u{1b}[?1049h\u{1b}[?25l")?;
        Ok(Self(()))
    }

    /// Shows these lines and nothing else. They are written over the old ones in one go, so nothing
    /// flickers.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub(crate) fn draw(&mut self, lines: &[String]) -> Result<(), Failure> {
        let mut text = String::from("\u{1b}[?2026h\u{1b}[H");
        for (at, line) in lines.iter().enumerate() {
            if at > 0 {
                text.push_str("\r\n");
            }
            text.push_str(line);
            text.push_str("\u{1b}[K");
        }
        text.push_str("\u{1b}[J\u{1b}[?2026l");
        write(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The program is about to end; there is nobody left to tell.
        let _ = write("\u{1b}[?25h\u{1b}[?1049l");
    }
}

fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Failure::io("write to the terminal"))
}
