//! What programs tell each other about themselves: metrics, spans, health, status, alerts.

mod check;
mod health;
mod metrics;

use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use valkyrie_frame::limits::OBSERVE_BYTES_MAX;
use valkyrie_frame::{Flags, Frame, MessageType, StreamClass, StreamId, features, v2};

pub use health::HealthStatus;

use crate::error::{SendError, Violation};
use crate::event::Event;
use crate::options::Block;
use crate::receive::{Fault, Handled, value};
use crate::rule::Rule;
use crate::send::{Head, Structured};
use crate::session::Session;

/// A message of this chapter.
trait Told: Message + Default {
    const KIND: MessageType;
    const RULE: Rule;
    /// Field number of its list, how long that may be, and what is said when it is longer. Looked
    /// at before the list is made: an empty element takes two bytes on the wire and a hundred
    /// times as many in memory.
    const LIST: Option<(u32, usize, &'static str)> = None;

    /// What is wrong with the values, if anything is.
    fn problem(&self) -> Option<&'static str>;

    fn event(self: Box<Self>) -> Event<'static>;
}

/// The channel of a type.
const fn channel_of(kind: MessageType) -> StreamId {
    match kind {
        MessageType::METRICS_REPORT | MessageType::TRACE_SPAN => StreamClass::Logs.channel(),
        _ => StreamClass::System.channel(),
    }
}

impl Session {
    /// Tells the peer metrics of this program.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn report_metrics(&mut self, report: &v2::MetricsReport) -> Result<(), SendError> {
        self.tell(report)
    }

    /// Hands spans that are over to the peer's collector.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn report_spans(&mut self, spans: &v2::TraceSpans) -> Result<(), SendError> {
        self.tell(spans)
    }

    /// Asks how a service of the peer is, or answers such a question: see
    /// [`HealthStatus`].
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn health_check(&mut self, check: &v2::HealthCheck) -> Result<(), SendError> {
        self.tell(check)
    }

    /// Tells the peer how this program is.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn update_status(&mut self, status: &v2::StatusUpdate) -> Result<(), SendError> {
        self.tell(status)
    }

    /// Tells the peer something that a person should see.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn notify_alert(&mut self, alert: &v2::AlertNotification) -> Result<(), SendError> {
        self.tell(alert)
    }

    /// Whether both sides agreed on a feature and have not switched it off since.
    #[must_use]
    pub fn has_feature(&self, feature: u64) -> bool {
        self.agreement
            .as_ref()
            .is_some_and(|agreement| agreement.features & feature == feature)
    }

    fn tell<M: Told>(&mut self, message: &M) -> Result<(), SendError> {
        self.check_open()?;
        let (kind, bytes) = (M::KIND, message.encoded_len());
        if !self.has_feature(features::OBSERVE) {
            return Err(SendError::NotAgreed { kind });
        }
        if let Some(problem) = message.problem() {
            return Err(SendError::Invalid { kind, problem });
        }
        if bytes > OBSERVE_BYTES_MAX {
            let max = OBSERVE_BYTES_MAX;
            return Err(SendError::TooLarge { bytes, max });
        }
        let stream = channel_of(kind);
        self.check_message(stream.class(), kind, bytes)?;
        self.message_number = self.message_number.next();
        let head = Head {
            kind,
            stream,
            correlation: self.message_number,
            flags: Flags::NONE,
            block: Block::None,
        };
        self.send_message(head, &Structured(message));
        Ok(())
    }

    /// A message of this chapter. It takes credit in any case, so that both sides count the same
    /// while a feature is being switched.
    pub(crate) fn on_observe<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        if stream != channel_of(kind) {
            let problem = "metrics and spans use channel 10000, health, status and alerts 1";
            let rule = Rule::PLACE;
            return Err(Fault::Connection(Violation::WrongRange {
                stream,
                kind,
                problem,
                rule,
            }));
        }
        self.charge_channel(stream, frame.body.len() as u64)?;
        if !self.has_feature(features::OBSERVE) {
            return self.skip();
        }
        match kind {
            MessageType::METRICS_REPORT => self.take_told::<v2::MetricsReport>(frame),
            MessageType::TRACE_SPAN => self.take_told::<v2::TraceSpans>(frame),
            MessageType::HEALTH_CHECK => self.take_told::<v2::HealthCheck>(frame),
            MessageType::STATUS_UPDATE => self.take_told::<v2::StatusUpdate>(frame),
            _ => self.take_told::<v2::AlertNotification>(frame),
        }
    }

    fn take_told<'b, M: Told>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let kind = M::KIND;
        let Some(whole) = self.join(frame)? else {
            return Ok(None);
        };
        if whole.body.len() > OBSERVE_BYTES_MAX {
            let max = OBSERVE_BYTES_MAX as u64;
            return Err(Violation::TooLarge { kind, max }.into());
        }
        self.budgets.told.take(self.now).map_err(|max| {
            let (what, max, rule) = ("reports at once", u64::from(max), Rule::REPORTS);
            Violation::TooMany { what, max, rule }
        })?;
        if let Some((field, max, problem)) = M::LIST
            && count_of(field, &whole.body) > max
        {
            return Err(value(frame, problem, M::RULE).into());
        }
        let message = M::decode(&*whole.body).map_err(|error| Violation::Message {
            kind,
            error: error.to_string(),
        })?;
        match message.problem() {
            Some(problem) => Err(value(frame, problem, M::RULE).into()),
            None => Ok(Some(Box::new(message).event())),
        }
    }
}

/// How often a field is there, up to where the bytes stop being a message.
fn count_of(field: u32, mut body: &[u8]) -> usize {
    let mut count = 0;
    while let Ok((found, wire)) = decode_key(&mut body) {
        count += usize::from(found == field);
        if skip_field(wire, found, &mut body, DecodeContext::default()).is_err() {
            break;
        }
    }
    count
}
