//! Questions about services, and their answers.

use valkyrie_frame::limits::OBSERVE_NAME_BYTES_MAX;
use valkyrie_frame::{MessageType, v2};

use super::Told;
use crate::event::Event;
use crate::rule::Rule;

/// How a service is: `status` of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HealthStatus {
    /// It takes requests.
    Serving,
    /// It is there, and takes none now.
    NotServing,
    /// There is no such service.
    Unknown,
}

impl HealthStatus {
    /// The number on the wire.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::Serving => 1,
            Self::NotServing => 2,
            Self::Unknown => 3,
        }
    }

    /// Reads the number of an answer; `None` is a question.
    #[must_use]
    pub const fn from_wire(status: u32) -> Option<Self> {
        match status {
            0 => None,
            1 => Some(Self::Serving),
            2 => Some(Self::NotServing),
            _ => Some(Self::Unknown),
        }
    }
}

impl Told for v2::HealthCheck {
    const KIND: MessageType = MessageType::HEALTH_CHECK;
    const RULE: Rule = Rule::HEALTH;

    fn problem(&self) -> Option<&'static str> {
        if self.service.len() > OBSERVE_NAME_BYTES_MAX {
            return Some("service is over 255 bytes");
        }
        (self.status > 3).then_some("status is over 3")
    }

    fn event(self: Box<Self>) -> Event<'static> {
        Event::Health(self)
    }
}
