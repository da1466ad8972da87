//! Commands that people type: words between spaces, with quotes.

use std::ops::Range;

use crate::parser::ProtocolError;

/// Splits a line into words: `text` gets their bytes without quotes, `words` where each of them is.
///
/// In `"..."` a backslash stands before `n`, `r`, `t`, `b`, `a`, `xHH` or the byte itself; in `'...'`
/// only before `'`. The end of a quote is the end of its word. As in Redis.
pub(crate) fn split(
    line: &[u8],
    text: &mut Vec<u8>,
    words: &mut Vec<Range<u32>>,
) -> Result<(), ProtocolError> {
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(());
        }
        let start = text.len();
        rest = word(rest, text)?;
        // Lines are far shorter than 4 GiB.
        words.push(start as u32..text.len() as u32);
    }
}

/// Takes one word off; gives what follows.
fn word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            [] => return Ok(rest),
            [byte, ..] if byte.is_ascii_whitespace() => return Ok(rest),
            [b'"', quoted @ ..] => return end_of_quote(double(quoted, text)?),
            [b'\'', quoted @ ..] => return end_of_quote(single(quoted, text)?),
            [byte, next @ ..] => {
                text.push(*byte);
                rest = next;
            }
        }
    }
}

fn end_of_quote(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest {
        [] => Ok(rest),
        [byte, ..] if byte.is_ascii_whitespace() => Ok(rest),
        _ => Err(ProtocolError::Quotes),
    }
}

fn double<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, next) = match rest {
            [] => return Err(ProtocolError::Quotes),
            [b'"', next @ ..] => return Ok(next),
            [b'\\', b'x', high, low, next @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                let digit = |digit| hex(digit).unwrap_or_default();
                (digit(*high) << 4 | digit(*low), next)
            }
            [b'\\', escaped, next @ ..] => (unescape(*escaped), next),
            [byte, next @ ..] => (*byte, next),
        };
        text.push(byte);
        rest = next;
    }
}

fn single<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, next) = match rest {
            [] => return Err(ProtocolError::Quotes),
            [b'\'', next @ ..] => return Ok(next),
            [b'\\', b'\'', next @ ..] => (b'\'', next),
            [byte, next @ ..] => (*byte, next),
        };
        text.push(byte);
        rest = next;
    }
}

const fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}
