//! `JUnit` XML, in the many ways in which test runners write it.

use std::io::BufRead;
use std::rc::Rc;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};
use rustci_pipeline::v1;
use rustci_pipeline::v1::TestOutcome;

use super::text::{LongText, short};
use super::times::microseconds;
use super::{Report, Totals};
use crate::limits::{REPORT_DEPTH_MAX, REPORT_FILE_BYTES_MAX};
use crate::log::Patterns;

/// Why a file, or the rest of it, was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JunitError {
    /// There is nothing in it.
    #[error("it is empty; the program that writes it may have ended early")]
    Empty,
    /// It is XML of some other kind, or none at all.
    #[error(
        "its outermost element is <{0}>; a JUnit report begins with <testsuites> or <testsuite>"
    )]
    Root(String),
    /// It is no XML.
    #[error("it is not XML: it has no element")]
    NoElement,
    /// A declaration could make the reader fetch files or build gigabytes out of a line.
    #[error(
        "it has a document type declaration, which a report does not need and which is refused"
    )]
    DocType,
    /// UTF-16 and UTF-32 have zero bytes.
    #[error("it is not in UTF-8; configure the test runner to write UTF-8")]
    Encoding,
    /// Elements inside elements inside elements.
    #[error("its elements are nested more than {REPORT_DEPTH_MAX} deep")]
    TooDeep,
    /// More bytes than are read.
    #[error("it has more than {REPORT_FILE_BYTES_MAX} bytes; what lies behind that was not read")]
    TooLong,
    /// It ends, or goes wrong, in the middle.
    #[error("it breaks off after {tests} tests, at byte {at}: {reason}")]
    Malformed {
        /// Tests read before.
        tests: u32,
        /// Where.
        at: u64,
        /// What the XML reader says.
        reason: String,
    },
}

/// Reads one file into `report`. Tests that were complete before an error are kept.
///
/// # Errors
/// [`JunitError`].
pub fn read(mut input: impl BufRead, report: &mut Report) -> Result<(), JunitError> {
    let before = report.totals();
    let start = input.fill_buf().unwrap_or_default();
    if start
        .iter()
        .take(4)
        .any(|byte| matches!(byte, 0 | 0xFE | 0xFF))
    {
        return Err(JunitError::Encoding);
    }
    let mut reader = Reader::from_reader(input.take(REPORT_FILE_BYTES_MAX + 1));
    let mut state = State::new(report);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer);
        if reader.buffer_position() > REPORT_FILE_BYTES_MAX {
            return Err(JunitError::TooLong);
        }
        match event {
            Ok(Event::Eof) => break,
            Ok(event) => state.event(event)?,
            Err(error) => {
                let at = reader.error_position();
                return Err(malformed(&state, before, at, error.to_string()));
            }
        }
    }
    let at = reader.buffer_position();
    match state.places.last() {
        Some(_) => Err(malformed(
            &state,
            before,
            at,
            "elements are left open".to_owned(),
        )),
        None if state.has_root => Ok(()),
        None if state.has_text => Err(JunitError::NoElement),
        None => Err(JunitError::Empty),
    }
}

fn malformed(state: &State<'_>, before: Totals, at: u64, reason: String) -> JunitError {
    match state.has_root {
        true => JunitError::Malformed {
            tests: state.report.totals().tests - before.tests,
            at,
            reason,
        },
        false => JunitError::NoElement,
    }
}

/// What the element is in which the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Suite,
    Case,
    /// What a test came to, or one of its tries.
    Finding(Finding),
    /// What a test printed.
    Output,
    /// Something that says nothing about tests.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Failure,
    Error,
    Skipped,
    /// A further try of a test that failed.
    Rerun,
    /// A failed try of a test that passed in the end.
    Flaky,
}

impl Finding {
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"failure" => Self::Failure,
            b"error" => Self::Error,
            b"skipped" | b"disabled" | b"ignored" => Self::Skipped,
            b"rerunFailure" | b"rerunError" => Self::Rerun,
            b"flakyFailure" | b"flakyError" => Self::Flaky,
            _ => return None,
        })
    }
}

struct State<'r> {
    report: &'r mut Report,
    places: Vec<Place>,
    /// Names of the suites around, empty ones included.
    suites: Vec<String>,
    case: Option<Case>,
    has_root: bool,
    has_text: bool,
}

struct Case {
    test: v1::TestCase,
    details: LongText,
    output: LongText,
    /// How many texts are in the details.
    texts: u32,
    /// The text of the finding that is being read, when its first line is to become the message.
    message: Option<LongText>,
}

impl<'r> State<'r> {
    fn new(report: &'r mut Report) -> Self {
        Self {
            report,
            places: Vec::new(),
            suites: Vec::new(),
            case: None,
            has_root: false,
            has_text: false,
        }
    }

    fn event(&mut self, event: Event<'_>) -> Result<(), JunitError> {
        match event {
            Event::Start(start) => self.start(&start),
            Event::Empty(start) => {
                self.start(&start)?;
                self.end();
                Ok(())
            }
            Event::End(_) => {
                self.end();
                Ok(())
            }
            Event::DocType(_) => Err(JunitError::DocType),
            other => {
                match other {
                    Event::Text(text) => self.text(&text),
                    Event::CData(text) => self.text(&text),
                    Event::GeneralRef(reference) => self.text(&resolve(&reference)),
                    _ => {}
                }
                Ok(())
            }
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), JunitError> {
        if self.places.len() >= REPORT_DEPTH_MAX {
            return Err(JunitError::TooDeep);
        }
        let name = start.local_name();
        let name = name.as_ref();
        let place = match self.places.last() {
            None | Some(Place::Suite) => self.start_in_suite(name, start)?,
            Some(Place::Case) => match (Finding::of(name), name) {
                (Some(finding), _) => self.start_finding(finding, start),
                (None, b"system-out" | b"system-err") => Place::Output,
                _ => Place::Other,
            },
            // Where the stack of a try is an element of its own.
            Some(finding @ Place::Finding(_)) if name == b"stackTrace" => *finding,
            Some(_) => Place::Other,
        };
        self.places.push(place);
        Ok(())
    }

    fn start_in_suite(&mut self, name: &[u8], start: &BytesStart<'_>) -> Result<Place, JunitError> {
        let patterns = Rc::clone(self.report.patterns());
        match name {
            b"testsuites" | b"testsuite" => {
                self.has_root = true;
                self.suites
                    .push(short(&attribute(start, "name"), &patterns));
                Ok(Place::Suite)
            }
            b"testcase" if self.has_root => {
                self.case = Some(Case::new(start, &self.suites, &patterns));
                Ok(Place::Case)
            }
            _ if self.has_root => Ok(Place::Other),
            other => {
                let other = String::from_utf8_lossy(other);
                Err(JunitError::Root(short(&other, &patterns)))
            }
        }
    }

    fn start_finding(&mut self, finding: Finding, start: &BytesStart<'_>) -> Place {
        let patterns = Rc::clone(self.report.patterns());
        if let Some(case) = &mut self.case {
            case.begin(finding, start, &patterns);
        }
        Place::Finding(finding)
    }

    fn end(&mut self) {
        let patterns = Rc::clone(self.report.patterns());
        match self.places.pop() {
            Some(Place::Suite) => drop(self.suites.pop()),
            Some(Place::Case) => {
                if let Some(case) = self.case.take() {
                    self.report.add(case.finish());
                }
            }
            Some(Place::Finding(_)) => {
                if let Some(case) = &mut self.case {
                    case.end_finding(&patterns);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.has_text |= self.places.is_empty() && !text.trim_ascii().is_empty();
        match (self.places.last(), &mut self.case) {
            (Some(Place::Finding(_)), Some(case)) => case.text(text),
            (Some(Place::Output), Some(case)) => case.output.push(text),
            _ => {}
        }
    }
}

impl Case {
    fn new(start: &BytesStart<'_>, suites: &[String], patterns: &Rc<Patterns>) -> Self {
        let text = |name: &str| short(&attribute(start, name), patterns);
        let mut names: Vec<&str> = suites.iter().map(String::as_str).collect();
        names.retain(|name| !name.is_empty());
        names.dedup();
        let skipped = matches!(
            attribute(start, "status").as_str(),
            "notrun" | "skipped" | "disabled" | "ignored"
        );
        let outcome = match skipped {
            true => TestOutcome::Skipped,
            false => TestOutcome::Passed,
        };
        let test = v1::TestCase {
            suite: short(&names.join(" / "), patterns),
            class: text("classname"),
            name: text("name"),
            outcome: outcome.into(),
            duration_us: microseconds(&attribute(start, "time")),
            file: text("file"),
            line: attribute(start, "line").parse().unwrap_or(0),
            ..v1::TestCase::default()
        };
        Self {
            test,
            details: LongText::new(patterns),
            output: LongText::new(patterns),
            texts: 0,
            message: None,
        }
    }

    /// The worst finding decides, and the first of its kind gives the message.
    fn begin(&mut self, finding: Finding, start: &BytesStart<'_>, patterns: &Rc<Patterns>) {
        let now = self.test.outcome();
        let outcome = match finding {
            Finding::Failure => TestOutcome::Failed,
            Finding::Error if now != TestOutcome::Failed => TestOutcome::Errored,
            Finding::Skipped if now == TestOutcome::Passed => TestOutcome::Skipped,
            Finding::Rerun | Finding::Flaky => {
                self.test.failed_tries += 1;
                now
            }
            Finding::Error | Finding::Skipped => now,
        };
        self.test.flaky |= finding == Finding::Flaky;
        let message = short(&attribute(start, "message"), patterns);
        if self.test.message.is_empty() || outcome != now {
            self.message = message.is_empty().then(|| LongText::new(patterns));
            if !message.is_empty() {
                self.test.message = message;
            }
        }
        self.test.outcome = outcome.into();
        if self.texts > 0 {
            self.details.push(b"\n\n");
        }
        self.texts += 1;
    }

    fn text(&mut self, text: &[u8]) {
        self.details.push(text);
        if let Some(message) = &mut self.message {
            message.push(text);
        }
    }

    fn end_finding(&mut self, patterns: &Rc<Patterns>) {
        if let Some(text) = self.message.take() {
            self.test.message = short(&text.finish(), patterns);
        }
    }

    fn finish(self) -> v1::TestCase {
        v1::TestCase {
            details: self.details.finish(),
            output: self.output.finish(),
            ..self.test
        }
    }
}

/// The value of an attribute; empty when it is missing or makes no sense.
fn attribute(start: &BytesStart<'_>, name: &str) -> String {
    let mut attributes = start.attributes();
    let found = attributes
        .with_checks(false)
        .flatten()
        .find(|attribute| attribute.key.local_name().as_ref() == name.as_bytes());
    let Some(found) = found else {
        return String::new();
    };
    let raw = String::from_utf8_lossy(&found.value);
    unescape(&raw)
}

/// References that are none of XML's own stay as they were written: nothing is looked up.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, behind)) = rest.split_once('&') {
        text.push_str(before);
        let end = behind.find(';').filter(|end| *end <= 10);
        let (name, after) = end.map_or(("", behind), |end| {
            let (name, after) = behind.split_at(end);
            (name, after.get(1..).unwrap_or_default())
        });
        match character(name) {
            Some(c) => {
                text.push(c);
                rest = after;
            }
            None => {
                text.push('&');
                rest = behind;
            }
        }
    }
    text.push_str(rest);
    text
}

fn resolve(reference: &BytesRef<'_>) -> Vec<u8> {
    let name = String::from_utf8_lossy(reference);
    match character(&name) {
        Some(c) => c.to_string().into_bytes(),
        None => format!("&{name};").into_bytes(),
    }
}

fn character(name: &str) -> Option<char> {
    let code = match name {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        _ => name.strip_prefix('#')?,
    };
    let code = match code.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => code.parse(),
    };
    Some(char::from_u32(code.ok()?).unwrap_or(char::REPLACEMENT_CHARACTER))
}
