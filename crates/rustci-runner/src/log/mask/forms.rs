//! The forms in which a secret value can appear in a text.
//!
//! A program rarely prints a secret as it is: it prints a URL, a JSON document, a shell command or
//! a base64 dump that holds it. Every form here is made of one *unit*, the whole value without the
//! white space around it or one of its lines, because logs indent and wrap.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::limits::{MASKED_BYTES_MIN, SECRET_ENCODED_BYTES_MAX};

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 text longer than this may come wrapped over lines, so it is searched in pieces.
const WRAPPED_FROM: usize = 48;

/// Length of such a piece: 48 bits of the secret, too many to meet by chance.
const PIECE: usize = 8;

/// Characters that stay themselves in each style of percent-encoding, besides letters and digits:
/// RFC 3986, forms, JavaScript's component, JavaScript's whole URL, a path.
const URL_STYLES: [&str; 6] = [
    "-._~",
    "*-._",
    "-_.!~*'()",
    "-_.!~*'();/?:@&=+$,#",
    "-._~!$&'()*+,;=:@/",
    "-._~/",
];

/// Every form of a value, each at least [`MASKED_BYTES_MIN`] long, in order and without doubles.
///
/// Of a value over [`SECRET_ENCODED_BYTES_MAX`] there are only the plain forms: the others would
/// take dozens of times its size.
pub fn forms(value: &[u8]) -> BTreeSet<Vec<u8>> {
    let mut forms = Forms(BTreeSet::new());
    let value = value.trim_ascii();
    if value.len() < MASKED_BYTES_MIN {
        return forms.0;
    }
    let lines = || value.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let is_short = |line: &[u8]| !line.is_empty() && line.len() < MASKED_BYTES_MIN;
    lines().for_each(|line| forms.add(line));
    // As a whole only where its lines would not do: the lines keep their line ends in the log.
    if lines().any(is_short) {
        forms.0.insert(value.to_owned());
    }
    if value.len() <= SECRET_ENCODED_BYTES_MAX {
        let whole = [value].into_iter().filter(|whole| whole.contains(&b'\n'));
        lines()
            .chain(whole)
            .filter(|unit| unit.len() >= MASKED_BYTES_MIN)
            .for_each(|unit| forms.encoded(unit));
    }
    forms.0
}

struct Forms(BTreeSet<Vec<u8>>);

impl Forms {
    /// Adds a form, if it can be told from other text. Of one that keeps its line ends the lines
    /// are forms themselves.
    fn add(&mut self, form: impl AsRef<[u8]> + Into<Vec<u8>>) {
        if form.as_ref().len() >= MASKED_BYTES_MIN && !form.as_ref().contains(&b'\n') {
            self.0.insert(form.into());
        }
    }

    fn encoded(&mut self, unit: &[u8]) {
        for alphabet in [STANDARD, URL_SAFE] {
            (0..3).for_each(|offset| self.base64(unit, offset, alphabet));
        }
        self.add(hex(unit, "0123456789abcdef"));
        self.add(hex(unit, "0123456789ABCDEF"));
        for keep in URL_STYLES {
            for digits in ["0123456789abcdef", "0123456789ABCDEF"] {
                self.add(percent(unit, keep, digits, "%20"));
                self.add(percent(unit, keep, digits, "+"));
            }
        }
        let text = String::from_utf8_lossy(unit);
        for style in JSON_STYLES {
            self.add(json(&text, style));
        }
        let [minimal, ..] = JSON_STYLES;
        self.add(json(&json(&text, minimal), minimal));
        for digits in [Digits::Lower, Digits::Upper] {
            let mut all = String::new();
            text.chars().for_each(|c| json_unicode(c, digits, &mut all));
            self.add(all);
        }
        self.shell(&text);
        for double in ["&quot;", "&#34;", "\""] {
            for single in ["&#39;", "&apos;", "&#x27;", "'"] {
                self.add(html(&text, double, single));
            }
        }
    }

    /// The part of the encoded text that does not depend on what stands before and after the unit,
    /// which begins `offset` bytes after a group of three. Where the data ends with the unit, or
    /// with it and a newline, one or two more characters are certain.
    fn base64(&mut self, unit: &[u8], offset: usize, alphabet: &[u8; 64]) {
        let skip = (offset * 8).div_ceil(6);
        for end in [&b""[..], b"\n"] {
            let padded = [vec![0; offset].as_slice(), unit, end].concat();
            let stable = (offset + unit.len()) * 8 / 6;
            let text = base64(&padded, alphabet);
            let certain = text.get(skip..stable).unwrap_or_default();
            if certain.len() > WRAPPED_FROM {
                // Lines are wrapped between groups of four, counted from the start of the data.
                let first = skip.next_multiple_of(4);
                self.pieces(text.get(first..).unwrap_or_default());
                self.add(text.get(skip..skip + PIECE).unwrap_or_default());
                let tail = stable.saturating_sub(PIECE);
                self.add(text.get(tail..stable).unwrap_or_default());
                self.add(text.get(tail..).unwrap_or_default());
            } else {
                self.add(certain);
                self.add(text.get(skip..).unwrap_or_default());
            }
        }
    }

    fn pieces(&mut self, text: &[u8]) {
        let pieces = text.windows(PIECE).step_by(4);
        // A run of one character stands in many texts that are no secret.
        pieces
            .filter(|piece| piece.iter().any(|byte| Some(byte) != piece.first()))
            .for_each(|piece| self.add(piece));
    }

    fn shell(&mut self, text: &str) {
        self.add(text.replace('\'', r"'\''"));
        self.add(text.replace('\'', r#"'"'"'"#));
        self.add(escaped(text, r#""$`\"#));
        self.add(escaped(text, r#""$`\!"#));
        self.add(escaped(text, " \t'\"\\|&;()<>!{}*[]?^$`,"));
        self.add(escaped(text, " \t'\"\\|&;()<>!{}*[]?^$`~#"));
        self.add(ansi_c(text, Unprintable::Octal));
        self.add(ansi_c(text, Unprintable::Hex));
    }
}

fn base64(bytes: &[u8], alphabet: &[u8; 64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..=group.len() {
            let digit = bits >> (18 - 6 * place) & 63;
            out.extend(alphabet.get(digit as usize));
        }
    }
    out
}

fn hex(bytes: &[u8], digits: &str) -> Vec<u8> {
    let digits = digits.as_bytes();
    let digit = |value: u8| digits.get(usize::from(value)).copied();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .flatten()
        .collect()
}

fn percent(bytes: &[u8], keep: &str, digits: &str, space: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte) {
            out.push(byte);
        } else if byte == b' ' {
            out.extend_from_slice(space.as_bytes());
        } else {
            out.push(b'%');
            out.extend(hex(&[byte], digits));
        }
    }
    out
}

/// What a JSON writer escapes beyond what it has to.
#[derive(Clone, Copy)]
struct JsonStyle {
    /// Characters written as `\uXXXX`.
    unicode: &'static str,
    beyond_ascii: BeyondAscii,
    slash: &'static str,
    upper: Digits,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BeyondAscii {
    Kept,
    Escaped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Digits {
    Lower,
    Upper,
}

/// What writers in use do: the least, with `\/`, ASCII only in both digit cases, ASCII with `\/`,
/// safe inside HTML, and all that a browser could misread.
const JSON_STYLES: [JsonStyle; 7] = {
    const LEAST: JsonStyle = JsonStyle {
        unicode: "",
        beyond_ascii: BeyondAscii::Kept,
        slash: "/",
        upper: Digits::Lower,
    };
    const ASCII: JsonStyle = JsonStyle {
        beyond_ascii: BeyondAscii::Escaped,
        ..LEAST
    };
    [
        LEAST,
        JsonStyle {
            slash: r"\/",
            ..LEAST
        },
        ASCII,
        JsonStyle {
            upper: Digits::Upper,
            ..ASCII
        },
        JsonStyle {
            slash: r"\/",
            ..ASCII
        },
        JsonStyle {
            unicode: "<>&",
            ..LEAST
        },
        JsonStyle {
            unicode: "\"'+&<>`",
            upper: Digits::Upper,
            ..ASCII
        },
    ]
};

fn json(text: &str, style: JsonStyle) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if style.unicode.contains(c) => json_unicode(c, style.upper, &mut out),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str(r"\\"),
            '\n' => out.push_str(r"\n"),
            '\r' => out.push_str(r"\r"),
            '\t' => out.push_str(r"\t"),
            '\u{8}' => out.push_str(r"\b"),
            '\u{c}' => out.push_str(r"\f"),
            '/' => out.push_str(style.slash),
            c if c < ' ' => json_unicode(c, style.upper, &mut out),
            c if !c.is_ascii() && style.beyond_ascii == BeyondAscii::Escaped => {
                json_unicode(c, style.upper, &mut out);
            }
            c => out.push(c),
        }
    }
    out
}

fn json_unicode(c: char, digits: Digits, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let written = match digits {
            Digits::Lower => write!(out, "\\u{unit:04x}"),
            Digits::Upper => write!(out, "\\u{unit:04X}"),
        };
        written.expect("a string grows");
    }
}

/// A backslash before each of `special`.
fn escaped(text: &str, special: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if special.contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[derive(Clone, Copy)]
enum Unprintable {
    Octal,
    Hex,
}

/// The inside of a shell's `$'...'`.
fn ansi_c(text: &str, unprintable: Unprintable) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'\'' => out.push_str("\\'"),
            b'\\' => out.push_str(r"\\"),
            b'\n' => out.push_str(r"\n"),
            b'\r' => out.push_str(r"\r"),
            b'\t' => out.push_str(r"\t"),
            b' '..=b'~' => out.push(char::from(byte)),
            other => {
                let written = match unprintable {
                    Unprintable::Octal => write!(out, "\\{other:03o}"),
                    Unprintable::Hex => write!(out, "\\x{other:02x}"),
                };
                written.expect("a string grows");
            }
        }
    }
    out
}

fn html(text: &str, double: &str, single: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str(double),
            '\'' => out.push_str(single),
            c => out.push(c),
        }
    }
    out
}
