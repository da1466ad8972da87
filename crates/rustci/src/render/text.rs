//! Text for terminals: columns, cutting, and taking the power out of escape sequences.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

/// What may stay in text that a job printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Plain text only.
    Text,
    /// Text and SGR sequences, which set colours and nothing else.
    Colours,
}

const ESCAPE: char = '\u{1b}';
const RESET: &str = "\u{1b}[0m";

/// Takes every control sequence out of `text`, except colours if `keep` says so.
///
/// A line can otherwise move the cursor, retitle the window, answer for the keyboard or, with
/// bidirectional overrides, show something else than it says. Tabs become spaces; of a line that
/// rewrote itself with carriage returns the last version stays.
pub(crate) fn clean(text: &str, keep: Keep) -> Cow<'_, str> {
    if !text.chars().any(is_unwanted) {
        return Cow::Borrowed(text);
    }
    let text = last_version(text);
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    let mut coloured = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            ESCAPE => {
                let (sequence, tail) = escape(rest.as_str());
                if keep == Keep::Colours && is_colour(sequence) {
                    out.push(ESCAPE);
                    out.push_str(sequence);
                    coloured = true;
                }
                rest = tail.chars();
            }
            '\t' => {
                let spaces = 8 - column % 8;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            c if is_unwanted(c) => rest = after_c1(c, rest.as_str()).chars(),
            c => {
                out.push(c);
                column += c.width().unwrap_or(0);
            }
        }
    }
    if coloured && !out.ends_with(RESET) {
        out.push_str(RESET);
    }
    Cow::Owned(out)
}

fn is_unwanted(c: char) -> bool {
    let bidirectional = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    bidirectional || c.is_control()
}

/// What a terminal would still show of a line with carriage returns in it.
fn last_version(text: &str) -> &str {
    let text = text.trim_end_matches('\r');
    text.rsplit('\r')
        .find(|part| !part.is_empty())
        .unwrap_or(text)
}

/// Splits what follows an escape character into the sequence and the rest.
fn escape(text: &str) -> (&str, &str) {
    let end = match text.chars().next() {
        Some('[') => 1 + csi_length(text.get(1..).unwrap_or_default()),
        Some(']' | 'P' | 'X' | '^' | '_') => string_length(text),
        // Two characters, with intermediate bytes between them if any.
        Some(_) => {
            let intermediate = text
                .bytes()
                .take_while(|byte| (0x20..=0x2f).contains(byte))
                .count();
            let last = text
                .get(intermediate..)
                .and_then(|tail| tail.chars().next());
            intermediate + last.map_or(0, char::len_utf8)
        }
        None => 0,
    };
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// Length of parameters, intermediates and the final byte after `CSI`.
fn csi_length(text: &str) -> usize {
    let body = text
        .bytes()
        .take_while(|byte| (0x20..=0x3f).contains(byte))
        .count();
    let has_final = text
        .as_bytes()
        .get(body)
        .is_some_and(|byte| (0x40..=0x7e).contains(byte));
    body + usize::from(has_final)
}

/// Length up to and with the string terminator; everything if there is none.
fn string_length(text: &str) -> usize {
    let bell = text.find('\u{7}').map(|at| at + 1);
    let terminator = text.find("\u{1b}\\").map(|at| at + 2);
    let c1 = text.find('\u{9c}').map(|at| at + 2);
    [bell, terminator, c1]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(text.len())
}

/// The rest after a C1 control character, which may open a sequence of its own.
fn after_c1(c: char, rest: &str) -> &str {
    let skip = match c {
        '\u{9b}' => csi_length(rest),
        '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => string_length(rest),
        _ => 0,
    };
    rest.get(skip..).unwrap_or_default()
}

fn is_colour(sequence: &str) -> bool {
    let Some(body) = sequence
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix('m'))
    else {
        return false;
    };
    body.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':')
}

/// Columns that `text` takes; colours take none.
pub(crate) fn width(text: &str) -> usize {
    let mut columns = 0;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == ESCAPE {
            rest = escape(rest.as_str()).1.chars();
        } else {
            columns += c.width().unwrap_or(0);
        }
    }
    columns
}

/// `text` in at most `columns`, with `…` as its last column if something was cut off.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut used = 0;
    let mut coloured = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == ESCAPE {
            let (sequence, tail) = escape(rest.as_str());
            out.push(ESCAPE);
            out.push_str(sequence);
            coloured = true;
            rest = tail.chars();
            continue;
        }
        let wide = c.width().unwrap_or(0);
        if used + wide + 1 > columns {
            break;
        }
        out.push(c);
        used += wide;
    }
    if columns > 0 {
        out.push('…');
    }
    if coloured {
        out.push_str(RESET);
    }
    Cow::Owned(out)
}

/// `text` in exactly `columns`: cut, or followed by spaces.
pub(crate) fn fit(text: &str, columns: usize) -> String {
    let mut out = cut(text, columns).into_owned();
    let missing = columns.saturating_sub(width(&out));
    out.extend(std::iter::repeat_n(' ', missing));
    out
}

/// `left`, then `right` at the right edge of `columns`; `left` gives way.
pub(crate) fn spread(left: &str, right: &str, columns: usize) -> String {
    if right.is_empty() {
        return cut(left, columns).into_owned();
    }
    let room = columns.saturating_sub(width(right) + 1);
    format!("{} {right}", fit(left, room))
}

/// Breaks `text` at spaces into lines of at most `columns`; a longer word has a line of its own.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_not_copied() {
        assert!(matches!(clean("grün ✓ 漢字", Keep::Text), Cow::Borrowed(_)));
    }

    #[test]
    fn control_sequences_go() {
        let cases = [
            ("a\u{1b}[2Jb", "ab"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]8;;http://e\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}P+q544e\u{1b}\\x", "x"),
            ("\u{9b}31mred", "red"),
            ("\u{9d}0;t\u{9c}x", "x"),
            ("\u{1b}(Bx", "x"),
            ("\u{1b}cx", "x"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("end\u{1b}", "end"),
            ("end\u{1b}[", "end"),
            ("end\u{1b}]0;never closed", "end"),
            ("bell\u{7} back\u{8}space", "bell backspace"),
            ("a\u{202e}b", "ab"),
            ("10%\r50%\r100%\r", "100%"),
            ("a\tb", "a       b"),
            ("windows\r", "windows"),
        ];
        for (text, expected) in cases {
            assert_eq!(clean(text, Keep::Text), expected, "{text:?}");
        }
    }

    #[test]
    fn colours_stay_when_asked_for_and_are_closed() {
        let kept = clean("\u{1b}[1;31mred\u{1b}[H", Keep::Colours);
        assert_eq!(kept, "\u{1b}[1;31mred\u{1b}[0m");
        assert_eq!(clean("\u{1b}[>4;1mx", Keep::Colours), "x");
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(width("漢字ab"), 6);
        assert_eq!(cut("漢字ab", 4), "漢…");
        assert_eq!(fit("漢字", 6), "漢字  ");
        assert_eq!(width(&fit("漢字漢字", 5)), 5);
    }

    #[test]
    fn cutting_keeps_colours_whole() {
        assert_eq!(
            cut("\u{1b}[31mabcdef\u{1b}[0m", 4),
            "\u{1b}[31mabc…\u{1b}[0m"
        );
        assert_eq!(width("\u{1b}[31mabc\u{1b}[0m"), 3);
    }

    #[test]
    fn spread_fills_the_line() {
        assert_eq!(spread("left", "1s", 10), "left    1s");
        assert_eq!(spread("a long left side", "1s", 10), "a long… 1s");
    }

    #[test]
    fn wrap_breaks_at_spaces() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
