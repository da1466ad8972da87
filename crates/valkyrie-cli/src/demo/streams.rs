//! Streams of the demo services.

use std::collections::HashMap;

use valkyrie::{Correlation, End, ErrorCode, Link, StreamId, v2};

use super::number;

/// What a source sends.
static CHUNK: [u8; 64 * 1024] = [b'.'; 64 * 1024];

/// The streams of one connection.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: HashMap<StreamId, Service>,
}

/// What a stream is for.
#[derive(Debug)]
enum Service {
    Echo {
        /// What came and has found no credit to go back. Its own credit is held back until it has,
        /// so there is never more of it than the window of the stream.
        waiting: Vec<u8>,
        finished: Finished,
    },
    Sink {
        bytes: u64,
    },
    Source {
        left: u64,
    },
}

/// Whether the peer has ended its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finished {
    No,
    Yes,
}

impl Streams {
    /// The peer opened a stream.
    pub(crate) fn opened(&mut self, link: &Link, stream: StreamId, open: &v2::StreamOpen) {
        let service = match open.method.as_str() {
            "demo.Echo/Stream" => Service::Echo {
                waiting: Vec::new(),
                finished: Finished::No,
            },
            "demo.Sink/Put" => Service::Sink { bytes: 0 },
            "demo.Source/Get" => {
                let wanted = open.metadata.get("bytes").map_or(&b""[..], Vec::as_slice);
                let Some(left) = number(wanted) else {
                    let text = "the metadata `bytes` has to be a number of bytes";
                    refuse(link, stream, ErrorCode::REJECTED, text);
                    return;
                };
                Service::Source { left }
            }
            method => {
                let text = format!("there is no method {method} here (R-10.8)");
                refuse(link, stream, ErrorCode::UNEXPECTED, &text);
                return;
            }
        };
        link.session().accept(stream, 0);
        self.open.insert(stream, service);
        self.writable(link, stream);
    }

    /// Bytes came.
    pub(crate) fn data(&mut self, link: &Link, stream: StreamId, bytes: &[u8]) {
        match self.open.get_mut(&stream) {
            Some(Service::Echo { waiting, .. }) => {
                waiting.extend_from_slice(bytes);
                self.writable(link, stream);
            }
            Some(Service::Sink { bytes: taken }) => {
                *taken += bytes.len() as u64;
                link.session().consume(stream, bytes.len());
            }
            Some(Service::Source { .. }) | None => link.session().consume(stream, bytes.len()),
        }
    }

    /// The stream has credit.
    pub(crate) fn writable(&mut self, link: &Link, stream: StreamId) {
        let done = match self.open.get_mut(&stream) {
            Some(Service::Echo { waiting, finished }) => echo(link, stream, waiting, *finished),
            Some(Service::Source { left }) => send(link, stream, left),
            Some(Service::Sink { .. }) | None => return,
        };
        if done == End::Yes {
            self.open.remove(&stream);
        }
    }

    /// The peer sends nothing more.
    pub(crate) fn finished(&mut self, link: &Link, stream: StreamId) {
        match self.open.get_mut(&stream) {
            Some(Service::Echo { finished, .. }) => {
                *finished = Finished::Yes;
                self.writable(link, stream);
            }
            Some(Service::Sink { bytes }) => {
                let answer = bytes.to_string();
                // The stream may have been reset meanwhile, and then nobody waits for this.
                let _ = link.session().data(stream, answer.as_bytes(), End::Yes);
                self.open.remove(&stream);
            }
            Some(Service::Source { .. }) | None => {}
        }
    }

    /// The stream is gone.
    pub(crate) fn reset(&mut self, stream: StreamId) {
        self.open.remove(&stream);
    }
}

/// Sends back what waits, as far as credit goes; says whether that was all.
fn echo(link: &Link, stream: StreamId, waiting: &mut Vec<u8>, finished: Finished) -> End {
    let end = match finished {
        Finished::Yes => End::Yes,
        Finished::No => End::No,
    };
    let Ok(count) = link.session().data(stream, waiting, end) else {
        return End::Yes;
    };
    waiting.drain(..count);
    link.session().consume(stream, count);
    match waiting.is_empty() {
        true => end,
        false => End::No,
    }
}

/// Sends of a source what credit allows; says whether that was all.
fn send(link: &Link, stream: StreamId, left: &mut u64) -> End {
    loop {
        let most = usize::try_from(*left)
            .unwrap_or(usize::MAX)
            .min(CHUNK.len());
        let chunk = CHUNK.get(..most).unwrap_or(&CHUNK);
        let end = match chunk.len() as u64 == *left {
            true => End::Yes,
            false => End::No,
        };
        let Ok(count) = link.session().data(stream, chunk, end) else {
            return End::Yes;
        };
        *left -= count as u64;
        if count < chunk.len() {
            return End::No;
        }
        if end == End::Yes {
            return End::Yes;
        }
    }
}

fn refuse(link: &Link, stream: StreamId, code: ErrorCode, text: &str) {
    let mut session = link.session();
    session.error(stream, Correlation::NONE, code, text);
    session.reset(stream, code);
}
