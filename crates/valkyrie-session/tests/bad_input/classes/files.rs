//! Files out of order, past their size, or not whole.

use valkyrie_frame::{ErrorCode, MessageType, StreamId};
use valkyrie_session::Session;

use crate::case::{Case, ready};
use crate::wire::{DIGEST, chunk, complete, data, f, file_start, open};

const UNEXPECTED: ErrorCode = ErrorCode::UNEXPECTED;
const MALFORMED: ErrorCode = ErrorCode::MALFORMED;
const STREAM: u32 = 1001;

pub fn cases() -> Vec<Case> {
    let mut cases = order();
    cases.extend(offsets());
    cases.extend(wholeness());
    cases
}

fn wants(session: &mut Session) {
    session.file_verified(StreamId(STREAM), 0);
}

fn wants_the_rest(session: &mut Session) {
    session.file_verified(StreamId(STREAM), 60);
}

fn opened(name: &str) -> Case {
    ready(format!("files/{name}")).send(open(STREAM))
}

/// A file of 100 bytes that the application wants from the start.
fn wanted(name: &str) -> Case {
    opened(name).send(file_start(STREAM, 100)).app(wants)
}

fn order() -> Vec<Case> {
    let rule = "R-13.1";
    vec![
        ready("files/a START before the stream is accepted")
            .accepts_nothing()
            .send(open(STREAM))
            .send(file_start(STREAM, 100))
            .ends_stream(STREAM, rule, UNEXPECTED),
        opened("a START while another waits")
            .send(file_start(STREAM, 100))
            .send(file_start(STREAM, 100))
            .ends_stream(STREAM, rule, UNEXPECTED),
        opened("a CHUNK before any START")
            .send(chunk(STREAM, 0, 10))
            .ends_stream(STREAM, rule, UNEXPECTED),
        opened("a CHUNK before the START is answered")
            .send(file_start(STREAM, 100))
            .send(chunk(STREAM, 0, 10))
            .ends_stream(STREAM, rule, UNEXPECTED),
        opened("a COMPLETE before any START")
            .send(complete(STREAM))
            .ends_stream(STREAM, rule, UNEXPECTED),
        opened("a COMPLETE before the START is answered")
            .send(file_start(STREAM, 0))
            .send(complete(STREAM))
            .ends_stream(STREAM, rule, UNEXPECTED),
        opened("data before the START is answered")
            .send(file_start(STREAM, 100))
            .send(data(STREAM, 10))
            .ends_stream(STREAM, rule, UNEXPECTED),
        wanted("data between two CHUNKs")
            .send(chunk(STREAM, 0, 10))
            .send(data(STREAM, 10))
            .ends_stream(STREAM, rule, UNEXPECTED),
        wanted("a START that follows a whole file")
            .send(chunk(STREAM, 0, 100))
            .send(complete(STREAM))
            .send(file_start(STREAM, 100))
            .keeps(rule),
    ]
}

fn offsets() -> Vec<Case> {
    let rule = "R-13.2";
    let mut cases = Vec::new();
    for offset in [1, 10, u64::MAX - 10] {
        let case = wanted(&format!("a first CHUNK at {offset}"));
        let case = case.send(chunk(STREAM, offset, 10));
        cases.push(case.ends_stream(STREAM, rule, MALFORMED));
    }
    for offset in [0, 9, 11] {
        let case = wanted(&format!("a second CHUNK at {offset}"));
        let case = case.send(chunk(STREAM, 0, 10));
        let case = case.send(chunk(STREAM, offset, 10));
        cases.push(case.ends_stream(STREAM, rule, MALFORMED));
    }
    for offset in [0, 59, 61] {
        let case = opened(&format!("a CHUNK at {offset} of a file wanted from 60"));
        let case = case.send(file_start(STREAM, 100)).app(wants_the_rest);
        let case = case.send(chunk(STREAM, offset, 10));
        cases.push(case.ends_stream(STREAM, rule, MALFORMED));
    }
    cases.extend([
        wanted("a CHUNK of all")
            .send(chunk(STREAM, 0, 100))
            .keeps(rule),
        wanted("a CHUNK of a byte more than all")
            .send(chunk(STREAM, 0, 101))
            .ends_stream(STREAM, rule, MALFORMED),
        wanted("a byte behind all")
            .send(chunk(STREAM, 0, 100))
            .send(chunk(STREAM, 100, 1))
            .ends_stream(STREAM, rule, MALFORMED),
        opened("a byte behind all of a resumed file")
            .send(file_start(STREAM, 100))
            .app(wants_the_rest)
            .send(chunk(STREAM, 60, 41))
            .ends_stream(STREAM, rule, MALFORMED),
        opened("a byte of a file of none")
            .send(file_start(STREAM, 0))
            .app(wants)
            .send(chunk(STREAM, 0, 1))
            .ends_stream(STREAM, rule, MALFORMED),
    ]);
    cases
}

fn wholeness() -> Vec<Case> {
    let rule = "R-13.3";
    let half = DIGEST[..31].to_vec();
    vec![
        wanted("a COMPLETE before the first byte")
            .send(complete(STREAM))
            .ends_stream(STREAM, rule, MALFORMED),
        wanted("a COMPLETE a byte early")
            .send(chunk(STREAM, 0, 99))
            .send(complete(STREAM).end())
            .ends_stream(STREAM, rule, MALFORMED),
        opened("a COMPLETE a byte early of a resumed file")
            .send(file_start(STREAM, 100))
            .app(wants_the_rest)
            .send(chunk(STREAM, 60, 39))
            .send(complete(STREAM))
            .ends_stream(STREAM, rule, MALFORMED),
        wanted("a COMPLETE with another digest than START")
            .send(chunk(STREAM, 0, 100))
            .send(f(MessageType::FILE_TRANSFER_COMPLETE, STREAM).body([0; 32]))
            .ends_stream(STREAM, rule, MALFORMED),
        wanted("a COMPLETE with half a digest")
            .send(chunk(STREAM, 0, 100))
            .send(f(MessageType::FILE_TRANSFER_COMPLETE, STREAM).body(half))
            .ends_stream(STREAM, "R-13.6", MALFORMED),
        wanted("a whole file")
            .send(chunk(STREAM, 0, 100))
            .send(complete(STREAM).end())
            .keeps(rule),
        opened("a file of no bytes")
            .send(file_start(STREAM, 0))
            .app(wants)
            .send(complete(STREAM).end())
            .keeps(rule),
    ]
}
