//! What is compared, and where.

use std::time::Duration;

use valkyrie_frame::StreamClass;
use valkyrie_session::{CongestionAlgorithm, FlowControl, FlowControlStrategy, LearnedModel};

use crate::pairs::Road;

/// A link and a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scenario {
    /// Bits a second.
    pub bits_per_s: u64,
    /// There and back.
    pub rtt: Duration,
    /// Segments of a hundred that are lost and sent again.
    pub loss_percent: u64,
    /// Who reads.
    pub reader: Reader,
}

/// A name, and the windows of stream and connection that it stands for.
pub type Named = (&'static str, fn() -> FlowControl);

/// How fast the application reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Whatever comes, at once.
    Prompt,
    /// A quarter of what the link could bring.
    Slow,
}

/// The strategies that are compared.
pub const STRATEGIES: [Named; 4] = [
    ("fixed", fixed),
    ("adaptive", FlowControl::default),
    ("congestion", congestion),
    ("learned", learned),
];

/// All scenarios of the comparison.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (reader, losses) in [(Reader::Prompt, [0, 1, 5].as_slice()), (Reader::Slow, &[0])] {
        for mbit in [1, 10, 100, 1_000] {
            for ms in [1, 20, 200] {
                let of_loss = losses.iter().map(|&loss_percent| Scenario {
                    bits_per_s: mbit * 1_000_000,
                    rtt: Duration::from_millis(ms),
                    loss_percent,
                    reader,
                });
                all.extend(of_loss);
            }
        }
    }
    all
}

impl Scenario {
    /// Bytes a second.
    pub(crate) const fn rate(&self) -> u64 {
        self.bits_per_s / 8
    }

    /// Bytes a second that can be had at all.
    pub(crate) const fn most(&self) -> u64 {
        match self.reader {
            Reader::Prompt => self.rate(),
            Reader::Slow => self.rate() / 4,
        }
    }

    /// The link. A socket holds two flights and 128 KiB, at most 4 MiB, as Linux tunes it.
    pub(crate) fn road(&self) -> Road {
        let nanos = u128::from(self.rate()) * self.rtt.as_nanos();
        let flight = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        Road {
            delay: self.rtt / 2,
            rate: self.rate(),
            buffer: (128 * 1024 + 2 * flight).min(4 << 20),
            loss_ppm: self.loss_percent * 10_000,
        }
    }

    /// How long the windows have to find their size, and how long is measured then.
    pub(crate) fn times(&self) -> (Duration, Duration) {
        let second = Duration::from_secs(1);
        let least = match self.bits_per_s {
            ..100_000_000 => second * 10,
            _ => second * 2,
        };
        (least.max(self.rtt * 50), least.max(self.rtt * 15))
    }
}

fn both(data: FlowControlStrategy, connection: FlowControlStrategy) -> FlowControl {
    let flow = FlowControl::default().with_class(StreamClass::Data, data);
    let flow = flow.and_then(|flow| flow.with_connection(connection));
    flow.unwrap_or_default()
}

fn fixed() -> FlowControl {
    both(
        FlowControlStrategy::FixedWindow(256 << 10),
        FlowControlStrategy::FixedWindow(4 << 20),
    )
}

fn congestion() -> FlowControl {
    let strategy = FlowControlStrategy::CongestionAware {
        algorithm: CongestionAlgorithm::DelayGradient,
    };
    both(strategy, strategy)
}

fn learned() -> FlowControl {
    let strategy = FlowControlStrategy::Learned {
        model: LearnedModel::Bandit { seed: 1 },
    };
    both(strategy, strategy)
}
