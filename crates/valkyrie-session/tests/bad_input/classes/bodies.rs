//! Raw bodies a byte too short or too long.

use valkyrie_frame::{ErrorCode, MessageType};

use crate::case::{Case, ready};
use crate::wire::{CHANNELS, f, log_bytes, open, record};

const MALFORMED: ErrorCode = ErrorCode::MALFORMED;
const TOO_LARGE: ErrorCode = ErrorCode::TOO_LARGE;

pub fn cases() -> Vec<Case> {
    let mut cases = on_control();
    cases.extend(credit());
    cases.extend(ends_of_streams());
    cases.extend(log_records());
    cases.extend(files());
    cases
}

fn on_control() -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds = [
        (MessageType::PING, "R-14.1", &[0, 7, 9, 16][..]),
        (MessageType::PONG, "R-14.1", &[0, 7, 9, 16]),
        (MessageType::CLOSE, "R-16.6", &[0, 5, 7]),
        (MessageType::ERROR, "R-15.8", &[0, 1, 2, 3, 4, 7]),
    ];
    for (kind, rule, lengths) in kinds {
        for &bytes in lengths {
            let name = format!("bodies/{kind} of {bytes} bytes");
            let case = ready(name).send(f(kind, 0).zeros(bytes));
            cases.push(case.ends_connection(rule, MALFORMED));
        }
    }
    let text = |bytes: usize| [&[0; 8][..], &vec![b'x'; bytes]].concat();
    let long = ready("bodies/an ERROR text of 1025 bytes");
    let long = long.send(f(MessageType::ERROR, 0).body(text(1025)));
    cases.push(long.ends_connection("R-15.8", TOO_LARGE));
    let most = ready("bodies/an ERROR text of 1024 bytes");
    cases.push(
        most.send(f(MessageType::ERROR, 0).body(text(1024)))
            .keeps("R-15.8"),
    );
    for (what, stream) in [("stream 0", 0), ("a channel", 1), ("a stream", 1001)] {
        let body = [&[0; 8][..], b"\xff\xfe"].concat();
        let name = format!("bodies/an ERROR text that is not UTF-8 on {what}");
        let case = ready(name).send(open(1001));
        let case = case.send(f(MessageType::ERROR, stream).body(body));
        cases.push(case.ends_connection("R-15.8", MALFORMED));
    }
    cases
}

fn credit() -> Vec<Case> {
    let mut cases = Vec::new();
    let places = CHANNELS.into_iter().chain([0, 3, 101, 1001, 10_001]);
    for stream in places {
        for bytes in [0, 15, 17] {
            let name = format!("bodies/STREAM_ACK of {bytes} bytes on {stream}");
            let mut case = ready(name);
            if !CHANNELS.contains(&stream) && stream != 0 {
                case = case.send(open(stream));
            }
            let case = case.send(f(MessageType::STREAM_ACK, stream).zeros(bytes));
            cases.push(case.ends_connection("R-9.5", MALFORMED));
        }
    }
    cases
}

fn ends_of_streams() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [MessageType::STREAM_CLOSE, MessageType::STREAM_RESET] {
        for stream in [3, 101, 1001, 10_001] {
            for bytes in [0, 9, 11] {
                let name = format!("bodies/{kind} of {bytes} bytes on {stream}");
                let case = ready(name).send(open(stream));
                let case = case.send(f(kind, stream).zeros(bytes));
                cases.push(case.ends_stream(stream, "R-8.11", MALFORMED));
            }
        }
    }
    cases
}

fn log_records() -> Vec<Case> {
    let stream = 10_001;
    let log = |name: String| ready(name).send(open(stream));
    let mut cases = Vec::new();
    for bytes in [0, 7] {
        let case = log(format!("bodies/LOG_ENTRY of {bytes} bytes"));
        let case = case.send(f(MessageType::LOG_ENTRY, stream).zeros(bytes));
        cases.push(case.ends_stream(stream, "R-12.4", MALFORMED));
    }
    let whole = record(4);
    for cut in [1, 3, 4, 11, 12, 13, 14, 15, 18] {
        let case = log(format!("bodies/a record cut after {cut} bytes"));
        let part = whole.get(..cut).unwrap();
        let case = case.send(log_bytes(stream, 0, part));
        cases.push(case.ends_stream(stream, "R-12.4", MALFORMED));
        let case = log(format!("bodies/a second record cut after {cut} bytes"));
        let both = [&whole[..], part].concat();
        let case = case.send(log_bytes(stream, 0, &both));
        cases.push(case.ends_stream(stream, "R-12.4", MALFORMED));
    }
    for (claim, code) in [(5, MALFORMED), (32_768, MALFORMED), (32_769, TOO_LARGE)]
        .into_iter()
        .chain([(u32::MAX, TOO_LARGE)])
    {
        let case = log(format!("bodies/a record of 4 bytes that claims {claim}"));
        let mut lie = whole.clone();
        lie.splice(..4, claim.to_be_bytes());
        let case = case.send(log_bytes(stream, 0, &lie));
        cases.push(case.ends_stream(stream, "R-12.4", code));
    }
    let most = log("bodies/a record of 32768 bytes".into());
    cases.push(
        most.send(log_bytes(stream, 0, &record(32_768)))
            .keeps("R-12.4"),
    );
    let over = log("bodies/a log offset past all numbers".into());
    let over = over.send(log_bytes(stream, u64::MAX, &whole));
    cases.push(over.ends_stream(stream, "R-12.4", MALFORMED));
    cases
}

fn files() -> Vec<Case> {
    let (start, chunk) = (
        MessageType::FILE_TRANSFER_START,
        MessageType::FILE_TRANSFER_CHUNK,
    );
    let complete = MessageType::FILE_TRANSFER_COMPLETE;
    let file = |name: String| ready(name).send(open(1001));
    let mut cases = Vec::new();
    for (kind, lengths) in [
        (start, &[0, 15, 16, 23, 24, 55][..]),
        (chunk, &[0, 7]),
        (complete, &[0, 31, 33]),
    ] {
        for &bytes in lengths {
            let case = file(format!("bodies/{kind} of {bytes} bytes"));
            let case = case.send(f(kind, 1001).zeros(bytes));
            cases.push(case.ends_stream(1001, "R-13.6", MALFORMED));
        }
    }
    let named = |name: &[u8]| [&[0; 56][..], name].concat();
    let long = file("bodies/a file name of 1025 bytes".into());
    let long = long.send(f(start, 1001).body(named(&[b'n'; 1025])));
    cases.push(long.ends_stream(1001, "R-13.6", TOO_LARGE));
    let most = file("bodies/a file name of 1024 bytes".into());
    let most = most.send(f(start, 1001).body(named(&[b'n'; 1024])));
    cases.push(most.keeps("R-13.6"));
    let text = file("bodies/a file name that is not UTF-8".into());
    let text = text.send(f(start, 1001).body(named(b"\xc3\x28")));
    cases.push(text.ends_stream(1001, "R-13.6", MALFORMED));
    cases
}
