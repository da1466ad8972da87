//! Messages in several frames whose layout shows only when they are whole.

use std::borrow::Cow;
use std::collections::HashMap;

use valkyrie_frame::limits::MESSAGE_BYTES_MAX;
use valkyrie_frame::{Correlation, ErrorCode, Flags, Frame, MessageType, StreamId};

use super::{Broken, Sender, has_joined_body};

/// Bytes of all unfinished messages of a connection together, as a receiver may bound them.
const BYTES_MAX: usize = 75_497_472;
/// Unfinished messages of a connection at once.
const OPEN_MAX: usize = 256;

type Key = (Option<Sender>, StreamId, MessageType, Correlation);

/// The unfinished messages of one connection.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    open: HashMap<Key, Message>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Message {
    /// Only of types that have a layout; raw bodies are shown frame by frame.
    bytes: Vec<u8>,
    length: usize,
}

/// What a frame is to its message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joined<'b> {
    /// The message is whole; with a raw body, this is its last fragment.
    Whole(Cow<'b, [u8]>),
    /// More fragments follow.
    More {
        /// How long the message is so far.
        length: usize,
    },
    /// It breaks a limit, and its fragments are forgotten.
    Refused(Broken),
}

impl Joins {
    /// Whether the frame begins its message.
    pub(crate) fn begins(&self, sender: Option<Sender>, frame: &Frame<'_>) -> bool {
        !self.open.contains_key(&key(sender, frame))
    }

    /// Takes the next fragment.
    pub(crate) fn add<'b>(&mut self, sender: Option<Sender>, frame: &Frame<'b>) -> Joined<'b> {
        let key = key(sender, frame);
        let more = frame.header.flags.contains(Flags::MORE_FRAGMENTS);
        let mut message = match self.open.remove(&key) {
            Some(message) => message,
            None if !more => return Joined::Whole(Cow::Borrowed(frame.body)),
            None if self.open.len() == OPEN_MAX => return refused("R-6.2", ErrorCode::LIMIT),
            None => Message::default(),
        };
        self.bytes -= message.bytes.len();
        message.length += frame.body.len();
        if message.length > MESSAGE_BYTES_MAX as usize {
            return refused("R-6.3", ErrorCode::TOO_LARGE);
        }
        if has_joined_body(frame.header.kind) {
            message.bytes.extend_from_slice(frame.body);
        }
        if !more {
            return Joined::Whole(match has_joined_body(frame.header.kind) {
                true => Cow::Owned(message.bytes),
                false => Cow::Borrowed(frame.body),
            });
        }
        self.bytes += message.bytes.len();
        if self.bytes > BYTES_MAX {
            self.bytes -= message.bytes.len();
            return refused("R-6.2", ErrorCode::TOO_LARGE);
        }
        let length = message.length;
        self.open.insert(key, message);
        Joined::More { length }
    }
}

fn key(sender: Option<Sender>, frame: &Frame<'_>) -> Key {
    let header = &frame.header;
    (sender, header.stream, header.kind, header.correlation)
}

fn refused<'b>(rule: &'static str, code: ErrorCode) -> Joined<'b> {
    let text = match rule {
        "R-6.3" => "the fragments are longer together than a message may be",
        _ => "too many messages are half sent",
    };
    Joined::Refused(Broken::new(rule, code, text))
}

#[cfg(test)]
mod tests {
    use valkyrie_frame::{Extensions, Header};

    use super::*;

    fn add(joins: &mut Joins, body: &[u8], flags: Flags) -> Option<Vec<u8>> {
        let header = Header::new(MessageType::JOB_REQUEST, StreamId(102), 0).with_flags(flags);
        let frame = Frame {
            header,
            extensions: Extensions::EMPTY,
            body,
        };
        match joins.add(None, &frame) {
            Joined::Whole(message) => Some(message.into_owned()),
            Joined::More { .. } => None,
            Joined::Refused(broken) => Some(broken.rule.as_bytes().to_vec()),
        }
    }

    #[test]
    fn fragments_become_their_message() {
        let mut joins = Joins::default();
        assert_eq!(add(&mut joins, b"ab", Flags::MORE_FRAGMENTS), None);
        assert_eq!(add(&mut joins, b"cd", Flags::MORE_FRAGMENTS), None);
        assert_eq!(add(&mut joins, b"e", Flags::NONE).unwrap(), b"abcde");
        assert_eq!(add(&mut joins, b"alone", Flags::NONE).unwrap(), b"alone");
        assert_eq!(joins.bytes, 0);
    }

    #[test]
    fn a_message_over_the_limit_is_forgotten() {
        let mut joins = Joins::default();
        let most = vec![0; MESSAGE_BYTES_MAX as usize];
        assert_eq!(add(&mut joins, &most, Flags::MORE_FRAGMENTS), None);
        let refused = add(&mut joins, b"x", Flags::MORE_FRAGMENTS).unwrap();
        assert_eq!(refused, b"R-6.3");
        assert!(joins.open.is_empty());
        assert_eq!(joins.bytes, 0);
    }
}
