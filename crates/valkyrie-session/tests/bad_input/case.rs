//! What a case is made of.

use std::time::Duration;

use valkyrie_frame::{ErrorCode, v2};
use valkyrie_session::{Session, Side};

use crate::wire::F;

/// Where the connection stands when the bad input comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The victim accepted a connection and nothing has come.
    Accepted,
    /// The victim connected and has sent HELLO.
    Offered,
    /// The same, and HELLO_ACK has come.
    Chosen,
    /// Ready, with a stream and a call of each side that must go on.
    Ready(Side),
    /// The victim has sent HELLO with a token on another transport.
    Joining,
}

/// What happens, in order.
pub enum Step {
    /// Bytes that come in one read.
    Send(Vec<u8>),
    /// So many reads with this much time between them; each is made from its number.
    Flood(u32, Duration, Box<dyn Fn(u32) -> Vec<u8>>),
    /// Time passes.
    Wait(Duration),
    /// The application of the victim does something.
    App(fn(&mut Session)),
}

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// The connection, with an ERROR that says so.
    Connection,
    /// A stream: ERROR and STREAM_RESET.
    Stream(u32),
    /// Nothing is open to end: an ERROR on the stream.
    Frame(u32),
    /// A message of a channel: an ERROR with this correlation.
    Message(u32, u32),
    /// Nothing; the frames are dropped and counted.
    Skipped,
    /// Nothing; the rule holds just so.
    Nothing,
}

/// One case. `rule` is what it breaks, or what it just does not break.
pub struct Case {
    pub name: String,
    pub given: Given,
    pub limits: v2::Limits,
    pub keepalive: Option<Duration>,
    /// Features that both sides want beside the default ones.
    pub features: u64,
    pub accepts: Accepts,
    /// Memory that the victim may take for each byte that comes.
    pub memory_per_byte: usize,
    pub steps: Vec<Step>,
    pub rule: &'static str,
    pub code: ErrorCode,
    pub ends: Ends,
}

/// Whether the application of the victim takes the streams it is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    All,
    None,
}

/// Memory for each byte that comes: an answer to the smallest frame, its count for the histograms,
/// and buffers that double.
const MEMORY_PER_BYTE: usize = 12;

/// The same for messages of lists in lists, whose elements are larger read than written.
const MEMORY_PER_LISTED_BYTE: usize = 48;

/// A case that begins with a ready connection which the peer opened.
pub fn ready(name: impl Into<String>) -> Case {
    given(Given::Ready(Side::Acceptor), name)
}

pub fn given(given: Given, name: impl Into<String>) -> Case {
    Case {
        name: name.into(),
        given,
        limits: v2::Limits::default(),
        keepalive: None,
        features: 0,
        accepts: Accepts::All,
        memory_per_byte: MEMORY_PER_BYTE,
        steps: Vec::new(),
        rule: "",
        code: ErrorCode::NONE,
        ends: Ends::Nothing,
    }
}

impl Case {
    /// What the victim announces.
    pub fn limits(mut self, limits: v2::Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The smallest windows there are.
    pub fn small_windows(self) -> Self {
        self.limits(v2::Limits {
            connection_window: 65_536,
            class_window: vec![4096, 4096, 4096, 65_536],
            ..Default::default()
        })
    }

    pub fn keepalive(mut self, interval: Duration) -> Self {
        self.keepalive = Some(interval);
        self
    }

    /// More features, which the other side wants too.
    pub fn features(mut self, features: u64) -> Self {
        self.features = features;
        self
    }

    /// Lists in lists come.
    pub fn of_lists(mut self) -> Self {
        self.memory_per_byte = MEMORY_PER_LISTED_BYTE;
        self
    }

    /// The application leaves every offered stream alone.
    pub fn accepts_nothing(mut self) -> Self {
        self.accepts = Accepts::None;
        self
    }

    pub fn send(self, frame: F) -> Self {
        self.bytes(frame.bytes())
    }

    pub fn bytes(mut self, bytes: Vec<u8>) -> Self {
        self.steps.push(Step::Send(bytes));
        self
    }

    pub fn flood(
        mut self,
        count: u32,
        every: Duration,
        frame: impl Fn(u32) -> Vec<u8> + 'static,
    ) -> Self {
        self.steps.push(Step::Flood(count, every, Box::new(frame)));
        self
    }

    pub fn wait(mut self, time: Duration) -> Self {
        self.steps.push(Step::Wait(time));
        self
    }

    pub fn app(mut self, act: fn(&mut Session)) -> Self {
        self.steps.push(Step::App(act));
        self
    }

    fn expect(mut self, ends: Ends, rule: &'static str, code: ErrorCode) -> Self {
        (self.ends, self.rule, self.code) = (ends, rule, code);
        self
    }

    pub fn ends_connection(self, rule: &'static str, code: ErrorCode) -> Self {
        self.expect(Ends::Connection, rule, code)
    }

    pub fn ends_stream(self, stream: u32, rule: &'static str, code: ErrorCode) -> Self {
        self.expect(Ends::Stream(stream), rule, code)
    }

    pub fn refuses_frame(self, stream: u32, rule: &'static str, code: ErrorCode) -> Self {
        self.expect(Ends::Frame(stream), rule, code)
    }

    pub fn refuses(self, channel: u32, call: u32, rule: &'static str, code: ErrorCode) -> Self {
        self.expect(Ends::Message(channel, call), rule, code)
    }

    pub fn skips(self, rule: &'static str) -> Self {
        self.expect(Ends::Skipped, rule, ErrorCode::NONE)
    }

    pub fn keeps(self, rule: &'static str) -> Self {
        self.expect(Ends::Nothing, rule, ErrorCode::NONE)
    }

    /// Whether thousands of frames come, of which it is enough to run once.
    pub fn is_long(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| matches!(step, Step::Flood(count, ..) if *count > 1000))
    }

    /// Whether the case breaks a rule, rather than just not.
    pub fn breaks(&self) -> bool {
        !matches!(self.ends, Ends::Skipped | Ends::Nothing)
    }
}
