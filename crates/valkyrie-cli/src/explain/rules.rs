//! What the specification says of a single frame, whatever came before it.

use valkyrie_frame::{ErrorCode, ExtensionType, Flags, Frame, MessageType, Parity, StreamClass};

use super::{Broken, Sender};

/// Adds the rules that the header breaks.
pub(crate) fn check(sender: Option<Sender>, frame: &Frame<'_>, broken: &mut Vec<Broken>) {
    let header = &frame.header;
    let flags = header.flags;
    if flags.contains(Flags::ACK) && !frame.body.is_empty() {
        let text = "an acknowledgement has an empty body";
        broken.push(Broken::new("R-3.7", ErrorCode::MALFORMED, text));
    }
    if flags.contains(Flags::END_TO_END_SEALED) {
        broken.push(Broken::new(
            "R-3.9",
            ErrorCode::UNEXPECTED,
            "no mode of this version seals bodies end to end",
        ));
    }
    if header.kind == MessageType::CANCEL && !frame.body.is_empty() {
        let text = "CANCEL has an empty body";
        broken.push(Broken::new("R-10.5", ErrorCode::MALFORMED, text));
    }
    check_place(frame, broken);
    check_opener(sender, frame, broken);
}

/// Where a type belongs.
fn check_place(frame: &Frame<'_>, broken: &mut Vec<Broken>) {
    let (kind, stream) = (frame.header.kind, frame.header.stream);
    let wrong_range = |rule, text: &str| Some(Broken::new(rule, ErrorCode::WRONG_RANGE, text));
    let wrong_class = |text: &str| Some(Broken::new("R-4.2", ErrorCode::UNEXPECTED, text));
    let problem = match kind {
        MessageType::PING
        | MessageType::PONG
        | MessageType::CLOSE
        | MessageType::UPGRADE
        | MessageType::NEGOTIATE
            if stream.0 != 0 =>
        {
            wrong_range("R-4.2", "it belongs on stream 0")
        }
        MessageType::METRICS_REPORT | MessageType::TRACE_SPAN
            if stream != StreamClass::Logs.channel() =>
        {
            wrong_range("R-4.2", "it belongs on channel 10000")
        }
        MessageType::HEALTH_CHECK
        | MessageType::STATUS_UPDATE
        | MessageType::ALERT_NOTIFICATION
            if stream != StreamClass::System.channel() =>
        {
            wrong_range("R-4.2", "it belongs on channel 1")
        }
        MessageType::CALL | MessageType::REPLY | MessageType::CANCEL | MessageType::MESSAGE
            if !stream.is_channel() =>
        {
            wrong_range("R-4.2", "it belongs on a channel: 1, 100, 1000 or 10000")
        }
        kind if kind.is_job() && (stream.class() != StreamClass::Jobs || stream.is_channel()) => {
            wrong_range("R-4.2", "job messages belong on job streams, 101 to 999")
        }
        MessageType::STREAM_RESET if !stream.is_stream() => {
            wrong_range("R-8.7", "stream 0 and channels cannot be reset")
        }
        kind if is_of_streams(kind) && !stream.is_stream() => wrong_range(
            "R-4.2",
            "it belongs on a stream, not on stream 0 or a channel",
        ),
        MessageType::LOG_ENTRY if stream.class() != StreamClass::Logs => {
            wrong_class("logs belong on log streams, above 10000")
        }
        MessageType::FILE_TRANSFER_START
        | MessageType::FILE_TRANSFER_CHUNK
        | MessageType::FILE_TRANSFER_COMPLETE
            if stream.class() != StreamClass::Data =>
        {
            wrong_class("files belong on data streams, 1001 to 9999")
        }
        _ => None,
    };
    broken.extend(problem);
}

/// STREAM_ACK is left out: channels and the connection have credit, too.
const fn is_of_streams(kind: MessageType) -> bool {
    matches!(kind.0, 0x30..=0x32 | 0x34..=0x37 | 0x41)
}

/// Whether the stream's number belongs to the side that opens it.
fn check_opener(sender: Option<Sender>, frame: &Frame<'_>, broken: &mut Vec<Broken>) {
    let header = &frame.header;
    let opens = match header.kind {
        MessageType::STREAM_OPEN => true,
        MessageType::JOB_REQUEST => !header.flags.contains(Flags::ACK),
        _ => false,
    };
    if !opens || !header.stream.is_stream() {
        return;
    }
    let (own, text) = match sender {
        Some(Sender::Initiator) => (Parity::Odd, "the initiator opens odd streams"),
        Some(Sender::Acceptor) => (Parity::Even, "the acceptor opens even streams"),
        None => return,
    };
    if header.stream.parity() != own {
        broken.push(Broken::new("R-8.1", ErrorCode::WRONG_RANGE, text));
    }
}

/// What the first frame of a message needs.
pub(crate) fn check_request(frame: &Frame<'_>, broken: &mut Vec<Broken>) {
    let header = &frame.header;
    let request = matches!(header.kind, MessageType::CALL | MessageType::MESSAGE);
    if request && frame.extensions.get(ExtensionType::METHOD).is_none() {
        let text = "the extension `method` is missing";
        broken.push(Broken::new("R-10.1", ErrorCode::MALFORMED, text));
    }
    if header.correlation.is_none() && !header.kind.is_job() {
        let (rule, text) = match header.kind {
            MessageType::CALL => ("R-10.2", "a call needs a correlation"),
            MessageType::REPLY => return,
            _ => ("R-6.10", "a message needs a correlation"),
        };
        broken.push(Broken::new(rule, ErrorCode::MALFORMED, text));
    }
}

/// What every fragment of a message needs.
pub(crate) fn check_fragment(frame: &Frame<'_>, broken: &mut Vec<Broken>) {
    if frame.header.flags.contains(Flags::MORE_FRAGMENTS) && frame.body.is_empty() {
        let text = "a fragment that is not the last has a body";
        broken.push(Broken::new("R-6.12", ErrorCode::MALFORMED, text));
    }
}
