//! Server-sent events, parsed from whatever pieces the connection delivers.

/// One event. Comments and `retry` lines make none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Event {
    /// The last id sent, with this event or before it; empty if none was.
    pub(crate) id: String,
    /// `message` if the server named none.
    pub(crate) name: String,
    /// The data lines, joined by newlines.
    pub(crate) data: String,
}

/// The bytes one event may have; more than any answer of the server needs.
const EVENT_BYTES_MAX: usize = 32 << 20;

/// An event that cannot be taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SseError {
    /// The server sent an event without end.
    #[error("an event is larger than {EVENT_BYTES_MAX} bytes")]
    TooLarge,
    /// The server sent bytes that are not text.
    #[error("an event is not UTF-8")]
    NotText,
}

/// The state between two pieces of a stream.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    buffer: Vec<u8>,
    /// Bytes of `buffer` known to hold no line end.
    scanned: usize,
    id: String,
    name: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// Takes the next bytes and appends the events they complete to `events`.
    ///
    /// # Errors
    /// [`SseError`]; the stream is of no use afterwards.
    pub(crate) fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), SseError> {
        self.buffer.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.as_slice();
        let mut from = self.scanned;
        while let Some(end) = line_end(rest, from) {
            let (line, tail) = rest.split_at(end);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.line(
                std::str::from_utf8(line).map_err(|_| SseError::NotText)?,
                events,
            );
            rest = tail.get(1..).unwrap_or_default();
            from = 0;
        }
        self.scanned = rest.len();
        self.buffer = rest.to_vec();
        if self.buffer.len() + self.data.len() > EVENT_BYTES_MAX {
            return Err(SseError::TooLarge);
        }
        Ok(())
    }

    fn line(&mut self, line: &str, events: &mut Vec<Event>) {
        if line.is_empty() {
            return self.dispatch(events);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.id),
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            // An empty field is a comment; `retry` and unknown fields change nothing here.
            _ => {}
        }
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let name = if name.is_empty() {
                "message".to_owned()
            } else {
                name
            };
            events.push(Event {
                id: self.id.clone(),
                name,
                data,
            });
        }
    }
}

fn line_end(bytes: &[u8], from: usize) -> Option<usize> {
    let unseen = bytes.get(from..)?;
    unseen
        .iter()
        .position(|byte| *byte == b'\n')
        .map(|at| at + from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&str]) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in pieces {
            parser.feed(piece.as_bytes(), &mut events).unwrap();
        }
        events
    }

    fn event(id: &str, name: &str, data: &str) -> Event {
        Event {
            id: id.into(),
            name: name.into(),
            data: data.into(),
        }
    }

    #[test]
    fn fields_make_an_event_and_the_id_lasts() {
        let events = parse(&["id: 7\nevent: job\ndata: {}\n\ndata: next\n\n"]);
        assert_eq!(
            events,
            [event("7", "job", "{}"), event("7", "message", "next")]
        );
    }

    #[test]
    fn data_lines_join_and_comments_vanish() {
        let events = parse(&[": keep-alive\n\ndata: a\ndata:\ndata:b\n\n"]);
        assert_eq!(events, [event("", "message", "a\n\nb")]);
    }

    #[test]
    fn any_split_gives_the_same_events() {
        let text = "id: 1\r\nevent: log\r\ndata: zwei Wörter\r\n\r\nid: 2\ndata: x\n\n";
        let whole = parse(&[text]);
        assert_eq!(whole.len(), 2);
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let (a, b) = text.split_at(cut);
            assert_eq!(parse(&[a, b]), whole, "cut at {cut}");
        }
        let bytes: Vec<Vec<u8>> = text.bytes().map(|byte| vec![byte]).collect();
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for byte in bytes {
            parser.feed(&byte, &mut events).unwrap();
        }
        assert_eq!(events, whole);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; EVENT_BYTES_MAX + 1];
        assert_eq!(
            parser.feed(&piece, &mut Vec::new()),
            Err(SseError::TooLarge)
        );
    }

    #[test]
    fn bytes_that_are_not_text_are_refused() {
        let mut parser = Parser::default();
        assert_eq!(
            parser.feed(b"data: \xff\n", &mut Vec::new()),
            Err(SseError::NotText)
        );
    }
}
