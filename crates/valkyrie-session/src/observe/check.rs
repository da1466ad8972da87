//! What values may stand in spans, status and alerts.

use valkyrie_frame::limits::{
    ALERT_LABELS_MAX, METRIC_TEXT_BYTES_MAX, OBSERVE_NAME_BYTES_MAX, OBSERVE_TEXT_BYTES_MAX,
    SPAN_ATTRIBUTES_MAX, SPANS_MAX,
};
use valkyrie_frame::{MessageType, v2};

use super::Told;
use super::metrics::is_label_name;
use crate::event::Event;
use crate::rule::Rule;

const TOO_MANY_SPANS: &str = "more than 512 spans";

impl Told for v2::TraceSpans {
    const KIND: MessageType = MessageType::TRACE_SPAN;
    const RULE: Rule = Rule::SPANS;
    const LIST: Option<(u32, usize, &'static str)> = Some((1, SPANS_MAX, TOO_MANY_SPANS));

    fn problem(&self) -> Option<&'static str> {
        if self.spans.len() > SPANS_MAX {
            return Some(TOO_MANY_SPANS);
        }
        self.spans.iter().find_map(span_problem)
    }

    fn event(self: Box<Self>) -> Event<'static> {
        Event::Spans(self)
    }
}

fn span_problem(span: &v2::Span) -> Option<&'static str> {
    if !is_id(&span.trace_id, 16) {
        return Some("a trace_id is not 16 bytes, or all zero");
    }
    if !is_id(&span.span_id, 8) {
        return Some("a span_id is not 8 bytes, or all zero");
    }
    if !span.parent_id.is_empty() && !is_id(&span.parent_id, 8) {
        return Some("a parent_id is not 8 bytes, or all zero");
    }
    if span.name.is_empty() || span.name.len() > OBSERVE_NAME_BYTES_MAX {
        return Some("a span's name is empty or over 255 bytes");
    }
    if span.kind > 5 || span.status > 2 {
        return Some("a span's kind is over 5, or its status over 2");
    }
    if span.end_unix_ns < span.start_unix_ns {
        return Some("a span ends before it begins");
    }
    if span.status_text.len() > OBSERVE_TEXT_BYTES_MAX {
        return Some("a span's text is over 1,024 bytes");
    }
    if span.attributes.len() > SPAN_ATTRIBUTES_MAX {
        return Some("a span has more than 64 attributes");
    }
    span.attributes.iter().find_map(attribute_problem)
}

fn attribute_problem(attribute: &v2::SpanAttribute) -> Option<&'static str> {
    if attribute.key.is_empty() || attribute.key.len() > OBSERVE_NAME_BYTES_MAX {
        return Some("an attribute's key is empty or over 255 bytes");
    }
    match &attribute.value {
        Some(v2::span_attribute::Value::Text(text)) if text.len() > OBSERVE_TEXT_BYTES_MAX => {
            Some("an attribute's value is over 1,024 bytes")
        }
        _ => None,
    }
}

fn is_id(bytes: &[u8], length: usize) -> bool {
    bytes.len() == length && bytes.iter().any(|byte| *byte != 0)
}

impl Told for v2::StatusUpdate {
    const KIND: MessageType = MessageType::STATUS_UPDATE;
    const RULE: Rule = Rule::STATUS;

    fn problem(&self) -> Option<&'static str> {
        if self.text.len() > OBSERVE_TEXT_BYTES_MAX {
            return Some("text is over 1,024 bytes");
        }
        (self.load_permille > 1000).then_some("load_permille is over 1000")
    }

    fn event(self: Box<Self>) -> Event<'static> {
        Event::PeerStatus(self)
    }
}

impl Told for v2::AlertNotification {
    const KIND: MessageType = MessageType::ALERT_NOTIFICATION;
    const RULE: Rule = Rule::ALERT;

    fn problem(&self) -> Option<&'static str> {
        if !matches!(self.severity, 1..=4) {
            return Some("severity is not 1 to 4");
        }
        if !is_alert_name(&self.name) {
            return Some("name is not 1 to 255 of the characters a-z 0-9 . _ -");
        }
        if self.text.len() > OBSERVE_TEXT_BYTES_MAX {
            return Some("text is over 1,024 bytes");
        }
        if self.labels.len() > ALERT_LABELS_MAX {
            return Some("more than 16 labels");
        }
        let fits = |(name, value): (&String, &String)| {
            is_label_name(name) && value.len() <= METRIC_TEXT_BYTES_MAX
        };
        (!self.labels.iter().all(fits)).then_some("a label has no proper name, or a long value")
    }

    fn event(self: Box<Self>) -> Event<'static> {
        Event::Alert(self)
    }
}

fn is_alert_name(name: &str) -> bool {
    let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= OBSERVE_NAME_BYTES_MAX && name.bytes().all(known)
}
