//! Says what was found, for people or for programs.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::{Value, json};
use valkyrie_frame::MessageType;

use crate::exit::Exit;
use crate::explain::{Broken, Explained, Fields, Sender, text};
use crate::failure::Failure;
use crate::output::{Format, Output};

/// Where a frame is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Connection of the capture, from 1.
    pub(crate) connection: Option<u32>,
    pub(crate) sender: Option<Sender>,
    pub(crate) unix_ns: Option<u64>,
    /// Of its first byte, in what its sender sent.
    pub(crate) offset: u64,
}

/// Bytes that are not frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// Bytes that break the form of a frame.
    NoFrame(Broken),
    /// Bytes of frames that the capture does not have whole.
    Skipped { bytes: u64 },
    /// The beginning of a frame at the end.
    Unfinished { bytes: u64 },
    /// Bytes behind something that is no frame.
    Ignored { bytes: u64 },
}

/// What is to be shown.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) connection: Option<u32>,
    pub(crate) stream: Option<u32>,
    pub(crate) types: Vec<MessageType>,
    pub(crate) details: Details,
}

/// How much of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Details {
    /// One line.
    Brief,
    /// Everything.
    Full,
}

/// Writes to standard output, and counts.
#[derive(Debug)]
pub(crate) struct Report<'o> {
    out: &'o mut Output,
    wanted: Wanted,
    first_ns: Option<u64>,
    connections: u64,
    frames: u64,
    shown: u64,
    violations: u64,
}

impl<'o> Report<'o> {
    /// Nothing was found yet.
    pub(crate) fn new(out: &'o mut Output, wanted: Wanted) -> Self {
        Self {
            out,
            wanted,
            first_ns: None,
            connections: 0,
            frames: 0,
            shown: 0,
            violations: 0,
        }
    }

    /// A connection begins.
    pub(crate) fn connection(
        &mut self,
        number: u32,
        initiator: SocketAddr,
        acceptor: SocketAddr,
        unix_ns: u64,
    ) -> Result<(), Failure> {
        self.connections += 1;
        if !self.wants_connection(Some(number)) {
            return Ok(());
        }
        let time = time(unix_ns);
        match self.out.format() {
            Format::Json => self.out.json(&json!({
                "connection": number, "time": time, "initiator": initiator, "acceptor": acceptor,
            })),
            Format::Text => {
                let colour = self.out.colour();
                let ends = format!("connection {number}  {initiator} > {acceptor}");
                let line = format!("{}  {}\n", colour.bold(&ends), colour.dim(&time));
                self.out.text(&line)
            }
        }
    }

    /// A frame was explained.
    pub(crate) fn frame(&mut self, place: Place, explained: &Explained) -> Result<(), Failure> {
        self.frames += 1;
        if !self.wants(place, explained) {
            return Ok(());
        }
        self.shown += 1;
        self.violations += explained.broken.len() as u64;
        match self.out.format() {
            Format::Json => {
                let mut line = Fields::new();
                line.insert("frame".to_owned(), self.frames.into());
                put_place(place, &mut line);
                line.extend(explained.to_json());
                self.out.json(&line)
            }
            Format::Text => {
                let colour = self.out.colour();
                let head = text::head(explained, colour);
                let mut lines = format!("{}{head}\n", self.label(place));
                match self.wanted.details {
                    Details::Full => {
                        let columns = self.out.size().0;
                        lines.push_str(&text::details(explained, columns, colour));
                    }
                    Details::Brief => {
                        for broken in &explained.broken {
                            lines.push_str(&text::violation(&broken.text, broken.rule, colour));
                        }
                    }
                }
                self.out.text(&lines)
            }
        }
    }

    /// Bytes are no frames.
    pub(crate) fn problem(&mut self, place: Place, problem: &Problem) -> Result<(), Failure> {
        let broken = matches!(problem, Problem::NoFrame(_))
            || matches!(problem, Problem::Unfinished { .. }) && place.connection.is_none();
        self.violations += u64::from(broken);
        if !self.wants_connection(place.connection) {
            return Ok(());
        }
        match self.out.format() {
            Format::Json => {
                let mut line = Fields::new();
                put_place(place, &mut line);
                line.insert("problem".to_owned(), problem.name().into());
                line.extend(problem.to_json());
                self.out.json(&line)
            }
            Format::Text => {
                let from = match (place.connection, place.sender) {
                    (Some(connection), Some(sender)) => {
                        format!("connection {connection}, {}, ", sender.name())
                    }
                    _ => String::new(),
                };
                let text = format!("{from}at byte {}: {}", place.offset, problem.text());
                let line = match problem {
                    Problem::NoFrame(broken) => {
                        text::violation(&text, broken.rule, self.out.colour())
                    }
                    _ => format!("       {}\n", self.out.colour().dim(&text)),
                };
                self.out.text(&line)
            }
        }
    }

    /// Everything was looked at. Says how it is, and gives the exit code.
    pub(crate) fn finish(self, others: u64) -> Result<Exit, Failure> {
        if self.out.format() == Format::Text {
            let mut line = count(self.frames, "frame");
            if self.shown != self.frames {
                line.push_str(&format!(", {} shown", self.shown));
            }
            if self.connections > 0 {
                line.push_str(&format!(" on {}", count(self.connections, "connection")));
            }
            if others > 0 {
                line.push_str(&format!(", {others} other connections passed over"));
            }
            let end = match self.violations {
                0 => ", no rule broken".to_owned(),
                some => self
                    .out
                    .colour()
                    .red(&format!(", {}", count(some, "violation"))),
            };
            self.out.text(&format!("{line}{end}\n"))?;
        }
        Ok(match self.violations {
            0 => Exit::Success,
            _ => Exit::Failed,
        })
    }

    fn wants_connection(&self, number: Option<u32>) -> bool {
        let wanted = self.wanted.connection;
        wanted.is_none() || wanted == number
    }

    fn wants(&self, place: Place, explained: &Explained) -> bool {
        let header = &explained.header;
        let types = &self.wanted.types;
        self.wants_connection(place.connection)
            && self.wanted.stream.is_none_or(|id| id == header.stream.0)
            && (types.is_empty() || types.contains(&header.kind))
    }

    /// Number, time since the first frame, connection and direction.
    fn label(&mut self, place: Place) -> String {
        let mut label = format!("{:>5} ", self.frames);
        if let Some(ns) = place.unix_ns {
            let first = *self.first_ns.get_or_insert(ns);
            let seconds = std::time::Duration::from_nanos(ns.saturating_sub(first)).as_secs_f64();
            label.push_str(&format!("{seconds:>10.6} "));
        }
        if let (Some(connection), Some(sender)) = (place.connection, place.sender) {
            let arrow = match sender {
                Sender::Initiator => '>',
                Sender::Acceptor => '<',
            };
            label.push_str(&format!("{connection}{arrow} "));
        }
        self.out.colour().dim(&label) + " "
    }
}

impl Problem {
    const fn name(&self) -> &'static str {
        match self {
            Self::NoFrame(_) => "no_frame",
            Self::Skipped { .. } => "skipped",
            Self::Unfinished { .. } => "unfinished",
            Self::Ignored { .. } => "ignored",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::NoFrame(broken) => broken.text.clone(),
            Self::Skipped { bytes } => {
                format!("{bytes} bytes of frames that are not whole here")
            }
            Self::Unfinished { bytes } => {
                format!("{bytes} bytes begin a frame that is not whole")
            }
            Self::Ignored { bytes } => {
                format!("{bytes} bytes were not looked at, since no frame precedes them")
            }
        }
    }

    fn to_json(&self) -> Fields {
        let value = match self {
            Self::NoFrame(broken) => broken.to_json(),
            Self::Skipped { bytes } | Self::Unfinished { bytes } | Self::Ignored { bytes } => {
                json!({ "bytes": bytes })
            }
        };
        match value {
            Value::Object(fields) => fields,
            _ => Fields::new(),
        }
    }
}

fn put_place(place: Place, line: &mut Fields) {
    let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
    if let Some(ns) = place.unix_ns {
        put("time", time(ns).into());
    }
    if let Some(connection) = place.connection {
        put("connection", connection.into());
    }
    if let Some(sender) = place.sender {
        put("from", sender.name().into());
    }
    put("offset", place.offset.into());
}

/// RFC 3339 in UTC, to the microsecond.
fn time(unix_ns: u64) -> String {
    match Timestamp::from_nanosecond(unix_ns.into()) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => format!("{unix_ns} ns"),
    }
}

fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
