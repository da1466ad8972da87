//! Bytes that have no layout: their number, and the beginning as text or hexadecimal.

use serde_json::Value;

use super::Fields;

/// How many bytes of a body without a layout are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preview {
    /// At most so many.
    pub(crate) bytes_max: usize,
}

impl Preview {
    /// Puts the number of bytes and their beginning into `fields`.
    pub(crate) fn put(self, bytes: &[u8], fields: &mut Fields) {
        fields.insert("bytes".to_owned(), bytes.len().into());
        if bytes.is_empty() || self.bytes_max == 0 {
            return;
        }
        let shown = bytes.get(..self.bytes_max).unwrap_or(bytes);
        let (name, value) = match text(shown, bytes.len()) {
            Some(text) => ("text", text.to_owned()),
            None => ("hex", hex(shown)),
        };
        fields.insert(name.to_owned(), value.into());
        if shown.len() < bytes.len() {
            fields.insert("cut".to_owned(), true.into());
        }
    }

    /// The same for a value inside a structure: text where it is some, else hexadecimal.
    pub(crate) fn value(self, bytes: &[u8]) -> Value {
        let shown = bytes.get(..self.bytes_max.max(64)).unwrap_or(bytes);
        let mut value = match text(shown, bytes.len()) {
            Some(text) => text.to_owned(),
            None => hex(shown),
        };
        if shown.len() < bytes.len() {
            value.push_str(&format!("... ({} bytes)", bytes.len()));
        }
        value.into()
    }
}

/// The beginning `shown` of something `whole` bytes long, when that reads as text. A character
/// that the cut went through is left out.
fn text(shown: &[u8], whole: usize) -> Option<&str> {
    let text = match str::from_utf8(shown) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() && shown.len() < whole => {
            str::from_utf8(shown.get(..error.valid_up_to())?).ok()?
        }
        Err(_) => return None,
    };
    let readable = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    (!text.is_empty() && text.chars().all(readable)).then_some(text)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8], bytes_max: usize) -> String {
        let mut fields = Fields::new();
        Preview { bytes_max }.put(bytes, &mut fields);
        Value::from(fields).to_string()
    }

    #[test]
    fn bytes_are_text_where_they_read_as_text() {
        let cases: [(&[u8], usize, &str); 6] = [
            (b"", 64, r#"{"bytes":0}"#),
            (b"hello", 64, r#"{"bytes":5,"text":"hello"}"#),
            (b"hello", 2, r#"{"bytes":5,"text":"he","cut":true}"#),
            (b"hello", 0, r#"{"bytes":5}"#),
            (b"\x00\xff", 64, r#"{"bytes":2,"hex":"00ff"}"#),
            // The cut goes through the second byte of a letter.
            (
                "a\u{e4}b".as_bytes(),
                2,
                r#"{"bytes":4,"text":"a","cut":true}"#,
            ),
        ];
        for (bytes, max, expected) in cases {
            assert_eq!(shown(bytes, max), expected);
        }
    }
}
