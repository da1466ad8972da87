//! Cuts the bytes of one direction into frames.

use valkyrie_frame::{Frame, FrameError, FrameLimits, MAGIC, VERSION_MAJOR};

/// The bytes of one direction, of which whole frames are taken off.
#[derive(Debug)]
pub(crate) struct Cutter {
    buffer: Vec<u8>,
    /// Position of the buffer's first byte in the direction.
    offset: u64,
    step: Step,
}

/// Whether it is known where the next frame begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// At the start of the buffer.
    Known,
    /// Bytes are missing; it is wherever the next frame can be told.
    Searching {
        /// How many bytes were passed over.
        skipped: u64,
    },
    /// Something that is no frame was there, so nothing behind it can be trusted.
    Lost {
        /// How many bytes were not looked at.
        ignored: u64,
    },
}

/// What a cutter finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cut<'b> {
    /// A whole frame.
    Frame(Frame<'b>),
    /// Bytes that belong to frames of which not all is there.
    Skipped(u64),
    /// Bytes that are no frame; nothing more comes.
    Broken(FrameError),
}

/// What is left in a cutter at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing.
    Nothing,
    /// The beginning of a frame.
    Unfinished {
        /// Its bytes.
        bytes: u64,
    },
    /// Bytes behind something that was no frame.
    Ignored {
        /// How many.
        bytes: u64,
    },
}

impl Cutter {
    /// For a direction that is known from its first byte on.
    pub(crate) const fn from_start() -> Self {
        Self::new(Step::Known)
    }

    /// For a direction of which the beginning is missing.
    pub(crate) const fn from_within() -> Self {
        Self::new(Step::Searching { skipped: 0 })
    }

    const fn new(step: Step) -> Self {
        Self {
            buffer: Vec::new(),
            offset: 0,
            step,
        }
    }

    /// Takes the next bytes and tells what they complete, each with its offset.
    ///
    /// # Errors
    /// What `each` returns; the rest of the bytes is dropped then.
    pub(crate) fn push<E>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(u64, Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Step::Lost { ignored } = &mut self.step {
            *ignored += bytes.len() as u64;
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        let result = self.cut(&mut rest, &mut each);
        if !matches!(self.step, Step::Lost { .. }) {
            self.buffer = rest.to_vec();
        }
        result
    }

    fn cut<E>(
        &mut self,
        rest: &mut &[u8],
        each: &mut impl FnMut(u64, Cut<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            if let Step::Searching { skipped } = &mut self.step {
                let count = search(rest);
                *rest = rest.get(count..).unwrap_or_default();
                self.offset += count as u64;
                *skipped += count as u64;
            }
            let before = rest.len();
            let frame = match Frame::parse(rest, FrameLimits::DEFAULT) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => {
                    let ignored = rest.len() as u64;
                    self.step = Step::Lost { ignored };
                    return each(self.offset, Cut::Broken(error));
                }
            };
            if let Step::Searching { skipped: 1.. } = self.step
                && let Step::Searching { skipped } = std::mem::replace(&mut self.step, Step::Known)
            {
                each(self.offset - skipped, Cut::Skipped(skipped))?;
            }
            self.step = Step::Known;
            each(self.offset, Cut::Frame(frame))?;
            self.offset += (before - rest.len()) as u64;
        }
    }

    /// Bytes are missing here: goes on with the next frame that can be told.
    pub(crate) fn gap(&mut self, bytes: u64) {
        if let Step::Lost { ignored } = &mut self.step {
            *ignored += bytes;
            return;
        }
        let before = match self.step {
            Step::Searching { skipped } => skipped,
            Step::Known | Step::Lost { .. } => 0,
        };
        let skipped = before + self.buffer.len() as u64 + bytes;
        self.offset += self.buffer.len() as u64 + bytes;
        self.buffer.clear();
        self.step = Step::Searching { skipped };
    }

    /// Where the first byte is that belongs to no whole frame.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// What is left when no more bytes come.
    pub(crate) fn left(&self) -> Left {
        match self.step {
            Step::Lost { ignored } => Left::Ignored { bytes: ignored },
            _ if self.buffer.is_empty() => Left::Nothing,
            _ => Left::Unfinished {
                bytes: self.buffer.len() as u64,
            },
        }
    }
}

/// Where in `bytes` a frame may begin: at the next magic and version with a header behind it that
/// makes sense, or where too little is left to tell.
fn search(bytes: &[u8]) -> usize {
    let [m0, m1] = MAGIC;
    let start = [m0, m1, VERSION_MAJOR];
    let may_begin = |at: usize| {
        let mut rest = bytes.get(at..).unwrap_or_default();
        let whole = rest.len().min(start.len());
        if rest.get(..whole) != start.get(..whole) {
            return false;
        }
        match Frame::parse(&mut rest, FrameLimits::DEFAULT) {
            Ok(Some(frame)) => frame.header.kind.is_known(),
            // The type is at 3 and the reserved byte, always sent as 0, at 7.
            Ok(None) => bytes.get(at + 7).is_none_or(|reserved| *reserved == 0),
            Err(_) => false,
        }
    };
    (0..bytes.len())
        .find(|at| may_begin(*at))
        .unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use valkyrie_frame::{Header, MessageType, StreamId};

    use super::*;

    fn ping(token: &[u8; 8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Header::new(MessageType::PING, StreamId::CONTROL, 8).append(&mut bytes);
        bytes.extend_from_slice(token);
        bytes
    }

    fn push(cutter: &mut Cutter, bytes: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let result: Result<(), Infallible> = cutter.push(bytes, |offset, cut| {
            found.push(match cut {
                Cut::Frame(frame) => format!("{offset} {}", String::from_utf8_lossy(frame.body)),
                Cut::Skipped(bytes) => format!("{offset} skipped {bytes}"),
                Cut::Broken(error) => format!("{offset} {}", error.rule()),
            });
            Ok(())
        });
        result.unwrap();
        found
    }

    #[test]
    fn frames_come_out_whole_wherever_the_bytes_are_cut() {
        let bytes = [ping(b"aaaaaaaa"), ping(b"bbbbbbbb")].concat();
        for cut in 0..=bytes.len() {
            let mut cutter = Cutter::from_start();
            let (first, second) = bytes.split_at(cut);
            let mut found = push(&mut cutter, first);
            found.extend(push(&mut cutter, second));
            assert_eq!(found, ["0 aaaaaaaa", "32 bbbbbbbb"], "cut at {cut}");
            assert_eq!(cutter.left(), Left::Nothing);
        }
    }

    #[test]
    fn nothing_behind_a_broken_frame_is_looked_at() {
        let mut cutter = Cutter::from_start();
        assert_eq!(push(&mut cutter, b"GET / HTTP/1.1"), ["0 R-3.1"]);
        assert_eq!(push(&mut cutter, &ping(b"aaaaaaaa")), [] as [&str; 0]);
        assert_eq!(cutter.left(), Left::Ignored { bytes: 46 });
    }

    #[test]
    fn the_frame_behind_missing_bytes_is_found() {
        let mut cutter = Cutter::from_start();
        assert_eq!(push(&mut cutter, &ping(b"aaaaaaaa")[..20]), [] as [&str; 0]);
        cutter.gap(100);
        // The letters of the magic alone do not make a frame.
        let bytes = [b"RCRC\x02xxxx".to_vec(), ping(b"bbbbbbbb")].concat();
        assert_eq!(push(&mut cutter, &bytes), ["0 skipped 129", "129 bbbbbbbb"]);
        assert_eq!(push(&mut cutter, &ping(b"cccccccc")), ["161 cccccccc"]);
    }

    #[test]
    fn a_beginning_that_is_missing_is_passed_over() {
        let mut cutter = Cutter::from_within();
        let bytes = [b"tail of a frame".to_vec(), ping(b"aaaaaaaa")].concat();
        let found: Vec<String> = bytes
            .iter()
            .flat_map(|byte| push(&mut cutter, &[*byte]))
            .collect();
        assert_eq!(found, ["0 skipped 15", "15 aaaaaaaa"]);
    }
}
