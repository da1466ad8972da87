//! Texts of a report: masked as they come, then cut.

use std::rc::Rc;

use crate::limits::{REPORT_NAME_BYTES_MAX, REPORT_TEXT_BYTES_MAX};
use crate::log::{Masker, Patterns};

/// Bytes kept of each end of a long text.
const HALF: usize = REPORT_TEXT_BYTES_MAX / 2;

/// A text that may become long: its start and its end are kept.
pub(super) struct LongText {
    masker: Masker,
    masked: Vec<u8>,
    head: Vec<u8>,
    tail: Vec<u8>,
    dropped: usize,
}

impl LongText {
    /// An empty text.
    pub(super) fn new(patterns: &Rc<Patterns>) -> Self {
        Self {
            masker: Masker::new(Rc::clone(patterns)),
            masked: Vec::new(),
            head: Vec::new(),
            tail: Vec::new(),
            dropped: 0,
        }
    }

    /// Adds what comes next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.masker.push(bytes, &mut self.masked);
        self.keep();
    }

    /// The text for people, with a note where something is missing.
    pub(super) fn finish(mut self) -> String {
        self.masker.finish(&mut self.masked);
        self.keep();
        let over = self.tail.len().saturating_sub(HALF);
        self.tail.drain(..over);
        self.dropped += over;
        let [head, tail] = [&self.head, &self.tail].map(|part| clean(part));
        let text = match self.dropped {
            0 => clean(&[self.head, self.tail].concat()),
            dropped => format!("{head}\n[... {dropped} bytes left out ...]\n{tail}"),
        };
        text.trim().to_owned()
    }

    fn keep(&mut self) {
        let room = HALF.saturating_sub(self.head.len()).min(self.masked.len());
        self.head.extend(self.masked.drain(..room));
        self.tail.append(&mut self.masked);
        if self.tail.len() > 4 * HALF {
            let over = self.tail.len() - HALF;
            self.tail.drain(..over);
            self.dropped += over;
        }
    }
}

/// A name or a message: one line of bounded length.
pub(super) fn short(text: &str, patterns: &Rc<Patterns>) -> String {
    let masked = clean(patterns.mask(text).as_bytes());
    let line = masked.trim().lines().next().unwrap_or_default().trim_end();
    if line.len() <= REPORT_NAME_BYTES_MAX {
        return line.to_owned();
    }
    let mut end = REPORT_NAME_BYTES_MAX - '…'.len_utf8();
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", line.get(..end).unwrap_or_default())
}

/// Text without control characters, which XML forbids and terminals obey.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_kept = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    let kept = text.replace("\r\n", "\n");
    kept.chars()
        .map(|c| {
            if is_kept(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns() -> Rc<Patterns> {
        Rc::new(Patterns::new([("S", b"secret-value".as_slice())]))
    }

    #[test]
    fn a_long_text_keeps_both_ends_and_no_part_of_a_secret() {
        // The secret lies across the place where the text is cut.
        let mut text = LongText::new(&patterns());
        for part in [
            &vec![b'a'; HALF - 6][..],
            b"secret-",
            b"value",
            &vec![b'z'; 5 * HALF],
        ] {
            text.push(part);
        }
        let text = text.finish();
        assert!(
            text.contains("aaa***zzz\n[... ") && text.ends_with("zz"),
            "{text}"
        );
        assert!(text.len() < REPORT_TEXT_BYTES_MAX + 100 && !text.contains("secret"));
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        let mut text = LongText::new(&patterns());
        text.push(b"\x1b]52;c;aGk=\x07 a\xffb\r\nc\0");
        assert_eq!(
            text.finish(),
            "\u{fffd}]52;c;aGk=\u{fffd} a\u{fffd}b\nc\u{fffd}"
        );
        assert_eq!(short(" one\ntwo secret-value", &patterns()), "one");
        assert_eq!(
            short(&"é".repeat(1000), &patterns()).len(),
            REPORT_NAME_BYTES_MAX - 1
        );
    }
}
