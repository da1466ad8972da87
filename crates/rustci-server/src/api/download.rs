//! Bodies that a thread writes while they are read.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::limits::{DOWNLOAD_CHUNK_BYTES, DOWNLOAD_CHUNKS};

/// A body of what `write` writes, on a thread of its own. The body breaks off when it fails.
pub(crate) fn body(
    seat: OwnedSemaphorePermit,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> io::Result<Body> {
    let (chunks, taken) = mpsc::channel(DOWNLOAD_CHUNKS);
    // Not one of the runtime's threads: a slow reader would keep it from others.
    std::thread::Builder::new()
        .name("download".into())
        .spawn(move || {
            let mut out = Chunks {
                to: chunks.clone(),
                buffer: Vec::with_capacity(DOWNLOAD_CHUNK_BYTES),
            };
            if let Err(error) = write(&mut out).and_then(|()| out.flush())
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                tracing::warn!(%error, "a download broke off");
                // If nobody reads it any more, nobody has to be told.
                let _ = chunks.blocking_send(Err(error));
            }
            drop(seat);
        })?;
    Ok(Body::from_stream(stream::unfold(
        taken,
        |mut taken| async { Some((taken.recv().await?, taken)) },
    )))
}

/// Cuts what is written into chunks of a body.
struct Chunks {
    to: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= DOWNLOAD_CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let room = Vec::with_capacity(DOWNLOAD_CHUNK_BYTES);
        let chunk = Bytes::from(std::mem::replace(&mut self.buffer, room));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more");
        self.to.blocking_send(Ok(chunk)).map_err(gone)
    }
}

/// `Content-Disposition` for a file that is to be saved under `name`, whatever is in it.
pub(crate) fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '_',
        })
        .collect();
    let exact: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    let text = format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}");
    HeaderValue::from_str(&text).expect("letters, digits and signs are a header value")
}

/// One range of bytes, from a header like `bytes=0-99`, `bytes=100-` or `bytes=-5`. `None` means all
/// of it: no header, or one of a form that a server may leave out of account (RFC 9110, 14.2).
///
/// # Errors
/// [`Unsatisfiable`] when the range begins behind the end.
pub(crate) fn range(
    header: Option<&HeaderValue>,
    size: u64,
) -> Result<Option<(u64, u64)>, Unsatisfiable> {
    let text = header.and_then(|header| header.to_str().ok());
    let Some((first, last)) = text
        .and_then(|text| text.strip_prefix("bytes="))
        .and_then(|text| text.split_once('-'))
    else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (first.trim(), last.trim()) {
        ("", last) => number(last).map(|count| (size.saturating_sub(count), size)),
        (first, "") => number(first).map(|first| (first, size)),
        (first, last) => number(first)
            .zip(number(last))
            .filter(|(first, last)| first <= last)
            .map(|(first, last)| (first, last.saturating_add(1).min(size))),
    };
    match range {
        Some((first, end)) if first >= end => Err(Unsatisfiable),
        other => Ok(other),
    }
}

/// A range that has no byte in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsatisfiable;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        let check = |text: &str, expected| {
            let header = HeaderValue::from_str(text).unwrap();
            assert_eq!(range(Some(&header), 100), expected, "{text}");
        };
        check("bytes=0-9", Ok(Some((0, 10))));
        check("bytes=90-", Ok(Some((90, 100))));
        check("bytes=-5", Ok(Some((95, 100))));
        check("bytes=-500", Ok(Some((0, 100))));
        check("bytes=50-500", Ok(Some((50, 100))));
        check("bytes=100-", Err(Unsatisfiable));
        check("bytes=-0", Err(Unsatisfiable));
        check("bytes=9-3", Ok(None));
        check("bytes=0-1,5-6", Ok(None));
        check("lines=0-1", Ok(None));
        assert_eq!(range(None, 100), Ok(None));
    }

    #[test]
    fn a_name_cannot_leave_its_header() {
        let value = attachment("a\"b\r\nX: y/ü.zip");
        assert_eq!(
            value.to_str().unwrap(),
            "attachment; filename=\"a_b__X__y__.zip\"; filename*=UTF-8''a%22b%0D%0AX%3A%20y%2F%C3%BC.zip"
        );
    }
}
