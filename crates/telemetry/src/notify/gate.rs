//! What is sent, what is counted, and when the counts are told. Time comes in as an argument.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::rule::{Notice, Rule, RuleKind};
use super::{NotificationMessage, NotificationSeverity};

const HOUR: Duration = Duration::from_secs(3600);
/// Subjects of one kind that are told apart; those of more are held back as if the hour were full.
const SUBJECTS_MAX: usize = 1_000;

/// Everything that was let through or held back lately.
#[derive(Debug, Default)]
pub(super) struct Gate {
    kinds: BTreeMap<RuleKind, Kind>,
}

#[derive(Debug)]
struct Kind {
    rule: Rule,
    subjects: HashMap<String, Repeats>,
    /// When the messages of the last hour were sent, the oldest first.
    sent: VecDeque<Instant>,
    held: Held,
}

/// A subject that was sent and is counted until its window ends.
#[derive(Debug)]
struct Repeats {
    until: Instant,
    severity: NotificationSeverity,
    more: u64,
    last: Option<NotificationMessage>,
}

/// What the hour had no room for.
#[derive(Debug, Default)]
struct Held {
    count: u64,
    worst: Option<NotificationMessage>,
}

impl Gate {
    /// Sets how often a kind comes, from now on.
    pub(super) fn set(&mut self, rule: Rule) {
        self.kind(rule.kind).rule = rule.bounded();
    }

    fn kind(&mut self, kind: RuleKind) -> &mut Kind {
        self.kinds.entry(kind).or_insert_with(|| Kind {
            rule: Rule::new(kind),
            subjects: HashMap::new(),
            sent: VecDeque::new(),
            held: Held::default(),
        })
    }

    /// Takes a notice; gives the message to send at once.
    pub(super) fn offer(&mut self, notice: Notice, now: Instant) -> Option<NotificationMessage> {
        self.kind(notice.kind).offer(notice, now)
    }

    /// What is to be said about counts by now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<NotificationMessage> {
        let kinds = self.kinds.values_mut();
        kinds.flat_map(|kind| kind.due(now)).collect()
    }

    /// When [`due`](Self::due) may have something.
    pub(super) fn next(&self) -> Option<Instant> {
        self.kinds.values().filter_map(Kind::next).min()
    }

    /// Everything that was counted and not told, for the end.
    pub(super) fn drain(&mut self) -> Vec<NotificationMessage> {
        let mut messages = Vec::new();
        for kind in self.kinds.values_mut() {
            for (_, mut repeats) in kind.subjects.drain() {
                messages.extend(repeats.told(kind.rule.window));
            }
            messages.extend(kind.held.told(&kind.rule));
        }
        messages
    }
}

impl Kind {
    fn offer(&mut self, notice: Notice, now: Instant) -> Option<NotificationMessage> {
        let Notice {
            subject,
            mut message,
            ..
        } = notice;
        if message.severity < self.rule.min_severity {
            return None;
        }
        if let Some(repeats) = self.subjects.get_mut(&subject)
            && now < repeats.until
            && message.severity <= repeats.severity
        {
            repeats.more += 1;
            repeats.last = Some(message);
            return None;
        }
        if !self.has_room(now) || self.subjects.len() >= SUBJECTS_MAX {
            self.held.add(1, message);
            return None;
        }
        self.sent.push_back(now);
        let repeats = Repeats {
            until: now + self.rule.window,
            severity: message.severity,
            more: 0,
            last: None,
        };
        self.subjects.insert(subject, repeats);
        if !self.has_room(now) {
            message.body.push_str(&format!(
                "\n\nThis is number {} of the last hour ({}). More are counted and told together.",
                self.rule.per_hour,
                self.rule.kind.name()
            ));
        }
        Some(message)
    }

    fn due(&mut self, now: Instant) -> Vec<NotificationMessage> {
        let mut messages = Vec::new();
        let over = |repeats: &Repeats| repeats.until <= now;
        let subjects: Vec<String> = self
            .subjects
            .iter()
            .filter(|(_, repeats)| over(repeats))
            .map(|(subject, _)| subject.clone())
            .collect();
        for subject in subjects {
            let Some(mut repeats) = self.subjects.remove(&subject) else {
                continue;
            };
            let more = repeats.more;
            let Some(told) = repeats.told(self.rule.window) else {
                continue;
            };
            if self.has_room(now) {
                self.sent.push_back(now);
                repeats.until = now + self.rule.window;
                self.subjects.insert(subject, repeats);
                messages.push(told);
            } else {
                self.held.add(more, told);
            }
        }
        if self.held.count > 0 && self.has_room(now) {
            self.sent.push_back(now);
            messages.extend(self.held.told(&self.rule));
        }
        messages
    }

    fn next(&self) -> Option<Instant> {
        let window = self.subjects.values().map(|repeats| repeats.until).min();
        let oldest = self.sent.front().filter(|_| self.held.count > 0);
        window.into_iter().chain(oldest.map(|at| *at + HOUR)).min()
    }

    fn has_room(&mut self, now: Instant) -> bool {
        while self.sent.front().is_some_and(|at| *at + HOUR <= now) {
            self.sent.pop_front();
        }
        self.sent.len() < usize::try_from(self.rule.per_hour).unwrap_or(usize::MAX)
    }
}

impl Repeats {
    /// What is said about repetitions; they are counted anew then.
    fn told(&mut self, window: Duration) -> Option<NotificationMessage> {
        let mut message = self.last.take()?;
        let more = std::mem::take(&mut self.more);
        let times = if more == 1 { "time" } else { "times" };
        message.title = format!("{} ({more} more {times})", message.title);
        message.body = format!(
            "It came {more} more {times} in {}. The last time:\n\n{}",
            humantime::format_duration(window),
            message.body
        );
        Some(message)
    }
}

impl Held {
    fn add(&mut self, count: u64, message: NotificationMessage) {
        self.count += count;
        let known = self.worst.as_ref().map(|worst| worst.severity);
        if known.is_none_or(|known| known <= message.severity) {
            self.worst = Some(message);
        }
    }

    /// What is said about what was held back; it is counted anew then.
    fn told(&mut self, rule: &Rule) -> Option<NotificationMessage> {
        let worst = self.worst.take()?;
        let count = std::mem::take(&mut self.count);
        let kind = rule.kind.name();
        let (noun, verb) = match count {
            1 => ("notification", "was"),
            _ => ("notifications", "were"),
        };
        Some(NotificationMessage {
            title: format!("{count} more {noun} of {kind}"),
            body: format!(
                "{count} more {noun} of {kind} {verb} not sent one by one, since there may be {} in an \
                 hour. The last of the worst:\n\n{}\n\n{}",
                rule.per_hour, worst.title, worst.body
            ),
            ..worst
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn notice(subject: &str, severity: NotificationSeverity) -> Notice {
        Notice {
            kind: RuleKind::BreakerOpen,
            subject: subject.to_owned(),
            message: NotificationMessage::new(severity, format!("{subject} is down"), "no answer"),
        }
    }

    fn warning(subject: &str) -> Notice {
        notice(subject, NotificationSeverity::Warning)
    }

    #[test]
    fn same_subject_is_counted_and_told_once_when_its_window_ends() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        assert!(gate.offer(warning("redis"), start).is_some());
        assert!(gate.offer(warning("valkey"), start).is_some());
        for minute in 1..4 {
            assert_eq!(gate.offer(warning("redis"), start + MINUTE * minute), None);
        }
        let end = start + MINUTE * 10;
        assert_eq!(gate.next(), Some(end));
        assert_eq!(gate.due(end - Duration::from_nanos(1)), []);
        let told = gate.due(end);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].title, "redis is down (3 more times)");
        assert!(told[0].body.starts_with("It came 3 more times in 10m."));
        // The window began anew with what was told, and ends without a word.
        assert_eq!(gate.offer(warning("redis"), end + MINUTE), None);
        assert_eq!(
            gate.due(end + MINUTE * 10)[0].title,
            "redis is down (1 more time)"
        );
        assert_eq!(gate.due(end + MINUTE * 20), []);
        assert_eq!(gate.next(), None);
        assert!(gate.offer(warning("redis"), end + MINUTE * 21).is_some());
    }

    #[test]
    fn what_gets_worse_is_said_at_once() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        assert!(gate.offer(warning("redis"), now).is_some());
        let worse = notice("redis", NotificationSeverity::Critical);
        assert!(gate.offer(worse.clone(), now).is_some());
        assert_eq!(gate.offer(worse, now), None);
        assert_eq!(gate.offer(warning("redis"), now), None);
    }

    #[test]
    fn full_hour_is_told_as_one_summary_when_there_is_room() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        gate.set(Rule {
            per_hour: 3,
            ..Rule::new(RuleKind::BreakerOpen)
        });
        let offered: Vec<_> = (0..10)
            .map(|number| gate.offer(warning(&format!("store {number}")), start + MINUTE))
            .collect();
        let sent: Vec<_> = offered.into_iter().flatten().collect();
        assert_eq!(sent.len(), 3);
        assert!(
            sent[2]
                .body
                .contains("number 3 of the last hour (breaker_open)")
        );
        assert!(!sent[1].body.contains("last hour"));
        let worst = notice("other", NotificationSeverity::Critical);
        assert_eq!(gate.offer(worst, start + MINUTE * 2), None);
        assert_eq!(gate.due(start + MINUTE * 60), []);
        assert_eq!(gate.next(), Some(start + MINUTE * 61));
        let told = gate.due(start + MINUTE * 61);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].title, "8 more notifications of breaker_open");
        assert_eq!(told[0].severity, NotificationSeverity::Critical);
        assert!(told[0].body.contains("other is down"), "{}", told[0].body);
        assert_eq!(gate.due(start + MINUTE * 62), []);
    }

    #[test]
    fn kinds_do_not_share_an_hour_and_mild_ones_are_not_sent() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        gate.set(Rule {
            per_hour: 1,
            min_severity: NotificationSeverity::Error,
            ..Rule::new(RuleKind::BreakerOpen)
        });
        assert_eq!(gate.offer(warning("redis"), now), None);
        let error = notice("redis", NotificationSeverity::Error);
        assert!(gate.offer(error, now).is_some());
        let other = Notice {
            kind: RuleKind::FellBack,
            ..warning("redis")
        };
        assert!(gate.offer(other, now).is_some());
        assert_eq!(gate.drain(), []);
    }

    #[test]
    fn end_tells_everything_that_was_counted() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        gate.set(Rule {
            per_hour: 1,
            ..Rule::new(RuleKind::BreakerOpen)
        });
        assert!(gate.offer(warning("redis"), now).is_some());
        assert_eq!(gate.offer(warning("redis"), now), None);
        assert_eq!(gate.offer(warning("valkey"), now), None);
        let titles: Vec<_> = gate.drain().into_iter().map(|told| told.title).collect();
        assert_eq!(
            titles,
            [
                "redis is down (1 more time)",
                "1 more notification of breaker_open"
            ]
        );
    }
}
