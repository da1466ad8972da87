//! Hexadecimal as people paste it.

/// A text is not hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HexError {
    /// A character that is neither a digit nor between digits.
    #[error("line {line}: {found:?} is not a hexadecimal digit")]
    Digit {
        /// Counted from 1.
        line: usize,
        /// The character.
        found: char,
    },
    /// Half a byte at the end of a group.
    #[error("line {line}: {group:?} has an odd number of digits")]
    Odd {
        /// Counted from 1.
        line: usize,
        /// The digits.
        group: String,
    },
}

/// The bytes of a text: groups of digits in any case, between them white space, `:`, `,` or `-`,
/// in front of them `0x`; lines that begin with `#` are comments.
///
/// # Errors
/// [`HexError`] with the line.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, HexError> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    for (line, content) in (1..).zip(text.lines()) {
        if content.trim_start().starts_with('#') {
            continue;
        }
        let between = |c: char| c.is_whitespace() || matches!(c, ':' | ',' | '-');
        for group in content.split(between).filter(|group| !group.is_empty()) {
            let digits = group.strip_prefix("0x").unwrap_or(group);
            take_group(digits, line, &mut bytes)?;
        }
    }
    Ok(bytes)
}

fn take_group(digits: &str, line: usize, bytes: &mut Vec<u8>) -> Result<(), HexError> {
    let mut high = None;
    for found in digits.chars() {
        let digit = found
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok());
        let digit = digit.ok_or(HexError::Digit { line, found })?;
        match high.take() {
            None => high = Some(digit << 4),
            Some(high) => bytes.push(high | digit),
        }
    }
    match high {
        None => Ok(()),
        Some(_) => Err(HexError::Odd {
            line,
            group: digits.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_taken_in_the_forms_in_which_they_are_pasted() {
        for text in [
            "52430202",
            "52 43 02 02",
            "5243 0202\n",
            "52:43:02:02",
            "0x52, 0x43, 0x02, 0x02",
            "# a frame\n5243\n0202",
            "  52-43-02-02  ",
        ] {
            assert_eq!(parse(text).unwrap(), [0x52, 0x43, 2, 2], "{text}");
        }
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_digit_is_named_with_its_line() {
        let (line, found) = (2, 'g');
        assert_eq!(parse("52\n4g"), Err(HexError::Digit { line, found }));
        let group = "430".to_owned();
        assert_eq!(parse("52 430"), Err(HexError::Odd { line: 1, group }));
    }
}
