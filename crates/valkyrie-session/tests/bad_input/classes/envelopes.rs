//! What may stand beside a body: metadata, content type, deadline, key.

use valkyrie_frame::{ErrorCode, MessageType, StreamClass};
use valkyrie_session::Session;

use crate::case::{Case, ready};
use crate::wire::{F, call, close_stream, data, error, message, open, reply};

const MALFORMED: ErrorCode = ErrorCode::MALFORMED;
const METADATA: u8 = 10;

fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    let (name_length, value_length) = (u8::try_from(name.len()), u16::try_from(value.len()));
    let mut entry = vec![name_length.unwrap()];
    entry.extend_from_slice(name);
    entry.extend_from_slice(&value_length.unwrap().to_be_bytes());
    entry.extend_from_slice(value);
    entry
}

fn numbered(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|n| entry(format!("k{n:03}").as_bytes(), b""))
        .collect()
}

/// One entry that makes the metadata so many bytes.
fn sized(bytes: usize) -> Vec<u8> {
    entry(b"k", &vec![0; bytes - 4])
}

fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let whole = entry(b"name", b"value");
    let cut = |bytes: usize| whole[..bytes].to_vec();
    let two = |first: &[u8], second: &[u8]| [entry(first, b""), entry(second, b"")].concat();
    vec![
        ("metadata without a name", entry(b"", b"v")),
        ("metadata cut in its name", cut(3)),
        ("metadata cut behind its name", cut(5)),
        ("metadata cut in the length of its value", cut(6)),
        ("metadata cut in its value", cut(11)),
        ("metadata that claims a value of 65535", [&whole[..5], &[0xff, 0xff]].concat()),
        ("metadata with a byte too many", [&whole[..], &[1]].concat()),
        ("a name in capitals", entry(b"Name", b"")),
        ("a name with a space", entry(b"a b", b"")),
        ("a name with a colon", entry(b"a:b", b"")),
        ("a name with a zero", entry(b"a\0", b"")),
        ("a name that is not ASCII", entry("é".as_bytes(), b"")),
        ("a name twice", two(b"a", b"a")),
        ("names out of order", two(b"b", b"a")),
        ("65 entries of metadata", numbered(65)),
        ("7169 bytes of metadata", sized(7169)),
    ]
}

fn asks(session: &mut Session) {
    let call = session.call(StreamClass::System, "a.B/C", b"", None);
    assert_eq!(call.unwrap().0, 0x1001);
}

pub fn cases() -> Vec<Case> {
    let rule = "R-5.9";
    let mut cases = Vec::new();
    for (what, value) in broken() {
        let named = |place: &str| ready(format!("envelopes/{what} in {place}"));
        let with = |frame: F| frame.ext(METADATA, &value);
        cases.extend([
            named("a CALL")
                .send(with(call(1, 0x1005)))
                .refuses(1, 0x1005, rule, MALFORMED),
            named("a CALL in fragments")
                .send(with(call(1, 0x1005)).more().zeros(1))
                .refuses(1, 0x1005, rule, MALFORMED),
            named("a MESSAGE")
                .send(with(message(1000, 0x1005)))
                .refuses(1000, 0, rule, MALFORMED),
            named("an answer")
                .app(asks)
                .send(with(reply(1, 0x1001)))
                .refuses(1, 0, rule, MALFORMED),
            named("data")
                .send(open(1001))
                .send(with(data(1001, 1)))
                .ends_stream(1001, rule, MALFORMED),
            named("a STREAM_CLOSE")
                .send(open(1001))
                .send(with(close_stream(1001, 0)))
                .ends_stream(1001, rule, MALFORMED),
            named("an ERROR")
                .send(with(error(1, ErrorCode::INTERNAL)))
                .ends_connection(rule, MALFORMED),
        ]);
    }
    cases.extend(openings());
    for (what, value) in [
        ("no metadata at all", vec![]),
        ("64 entries of metadata", numbered(64)),
        ("7168 bytes of metadata", sized(7168)),
        ("a name of all that is allowed", entry(b"abcxyz0189._-", &[0xff])),
        ("a name of 255 bytes", entry(&[b'n'; 255], b"")),
    ] {
        let case = ready(format!("envelopes/{what}"));
        let case = case.send(call(1, 0x1005).ext(METADATA, &value));
        cases.push(case.keeps(rule));
    }
    cases
}

/// What stands beside STREAM_OPEN is looked at as beside a CALL.
fn openings() -> Vec<Case> {
    let rule = "R-5.6";
    let mut cases = Vec::new();
    for (what, kind, value, code) in [
        ("a deadline of 3 bytes", 4, vec![0; 3], MALFORMED),
        ("a key of 15 bytes", 7, vec![0; 15], MALFORMED),
        ("a content type that is not text", 8, vec![0xff], MALFORMED),
        ("a content type of 256 bytes", 8, vec![b'a'; 256], ErrorCode::TOO_LARGE),
    ] {
        let case = ready(format!("envelopes/{what} in {}", MessageType::STREAM_OPEN));
        let case = case.send(open(1001).ext(kind, &value));
        cases.push(case.ends_stream(1001, rule, code));
        let case = ready(format!("envelopes/{what} in {}", MessageType::CALL));
        let case = case.send(call(1, 0x1005).ext(kind, &value));
        cases.push(case.refuses(1, 0x1005, rule, code));
    }
    cases
}
