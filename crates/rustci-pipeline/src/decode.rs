//! From the bytes of a file to its text.

use crate::diagnostic::{Code, Diagnostic, Severity, Span};

/// The text of a file, and what is wrong with its bytes.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The text; what is no text in it is replaced, for showing it.
    pub text: String,
    /// The first place that is not UTF-8. A text with one is not what is in the file.
    pub error: Option<Diagnostic>,
}

/// Reads bytes as the text of a pipeline file, which is UTF-8. `file` is what the finding names.
#[must_use]
pub fn decode(file: &str, bytes: Vec<u8>) -> Decoded {
    let error = match String::from_utf8(bytes) {
        Ok(text) => return Decoded { text, error: None },
        Err(error) => error,
    };
    let before = error.utf8_error().valid_up_to();
    let bytes = error.into_bytes();
    let byte = bytes.get(before).copied().unwrap_or_default();
    let before = String::from_utf8_lossy(bytes.get(..before).unwrap_or_default());
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default();
    let column = column.chars().count() + 1;
    Decoded {
        error: Some(Diagnostic {
            code: Code::SYNTAX,
            severity: Severity::Error,
            file: file.to_owned(),
            span: Span {
                line: u32::try_from(line).unwrap_or(u32::MAX),
                column: u32::try_from(column).unwrap_or(u32::MAX),
                len: 1,
            },
            message: format!("the byte 0x{byte:02x} here is not UTF-8, which a pipeline has to be"),
            help: Some("save the file as UTF-8".to_owned()),
            nearest: None,
        }),
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_is_no_text_is_named_with_its_place() {
        let found = decode("x.yaml", "a: \u{e4}\nb: \u{e4}".as_bytes().to_vec());
        assert_eq!(
            (found.text.as_str(), found.error),
            ("a: \u{e4}\nb: \u{e4}", None)
        );
        let bytes = [b"a: b\nc: \xc3\xa4".as_slice(), b"\xe4\xff\n"].concat();
        let found = decode("x.yaml", bytes);
        let error = found.error.unwrap();
        assert_eq!((error.span.line, error.span.column), (2, 5));
        assert!(error.message.contains("0xe4"), "{}", error.message);
        assert!(found.text.ends_with("\u{e4}\u{fffd}\u{fffd}\n"));
    }
}
