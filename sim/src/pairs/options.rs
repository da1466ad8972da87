//! What a seed stands for.

use std::{fmt, time::Duration};

use valkyrie_frame::{StreamClass, v2};
use valkyrie_session::{
    CongestionAlgorithm, FlowControl, FlowControlStrategy, LearnedModel, Limits, SessionConfig,
};

use super::pipe::Road;
use crate::rng::Rng;

/// The set-up of one simulation of pairs. Each seed has links, windows, strategies and faults of
/// its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PairOptions {
    /// The seed all of it follows from.
    pub seed: u64,
    /// Connections at once.
    pub pairs: usize,
    /// How long faults happen.
    pub faulty: Duration,
    /// Something that is broken on purpose, to see that it is noticed.
    pub plant: Plant,
    pub(crate) road: Road,
    pub(crate) windows: Windows,
    pub(crate) strategy: Strategy,
    pub(crate) faults: Faults,
    /// Mean time between two acts of an application.
    pub(crate) pace: Duration,
    /// Sizes of what is sent, in thousandths: a slow link gets less, or all it would do is wait.
    pub(crate) scale: u64,
}

/// What to break, so that the invariants can be seen to notice it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Plant {
    /// Nothing: the sessions as they are.
    #[default]
    Nothing,
    /// Credit for a stream does not come back, now and then.
    LoseCredit,
    /// Credit for the connection does not come back, once in a while.
    LoseConnectionCredit,
    /// A message is delivered twice.
    DeliverTwice,
    /// A message is not delivered.
    Drop,
    /// Two frames of a stream change places.
    Reorder,
    /// A sender believes it has more credit than it was given.
    Overspend,
    /// The end of a stream does not reach the other side.
    LoseEnd,
}

/// Sizes of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Windows {
    Default,
    /// The least that is allowed.
    Least,
    /// Of all kinds.
    Random(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    Default,
    Fixed,
    Gradient,
    Learned,
}

/// Faults, in percent of their opportunities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) slice: u64,
    pub(crate) stall: u64,
    pub(crate) cut: u64,
    pub(crate) half_close: u64,
    pub(crate) close: u64,
    pub(crate) pause: u64,
    pub(crate) slow_reader: u64,
    pub(crate) reset: u64,
}

impl PairOptions {
    /// The options that belong to a seed.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0fa1_55e5);
        let rng = &mut rng;
        let rates = [100_000, 1_000_000, 12_500_000, 125_000_000, 3_000_000_000];
        let rate = rng.pick(&rates).unwrap_or(1_000_000);
        let pace = Duration::from_micros(rng.between(300, 6_000));
        // About 4 kB for each act, of which the link should carry half.
        let carried = u128::from(rate) * pace.as_nanos() / 1_000_000_000;
        let scale = u64::try_from(carried * 2 * 1000 / 4000).unwrap_or(1000);
        let delay = rng.pick(&[20, 500, 5_000, 50_000, 150_000]);
        let road = Road {
            delay: Duration::from_micros(delay.unwrap_or(500)),
            rate,
            buffer: 1024 << rng.below(12),
            loss_ppm: rng.pick(&[0, 0, 1_000, 50_000]).unwrap_or(0),
        };
        let windows = match rng.below(3) {
            0 => Windows::Default,
            1 => Windows::Least,
            _ => Windows::Random(rng.below(u64::MAX)),
        };
        let strategies = [
            Strategy::Default,
            Strategy::Default,
            Strategy::Fixed,
            Strategy::Gradient,
            Strategy::Learned,
        ];
        let mut some = |percent| if rng.chance(40) { percent } else { 0 };
        let faults = Faults {
            slice: some(50),
            stall: some(30),
            cut: some(10),
            half_close: some(5),
            close: some(10),
            pause: some(10),
            slow_reader: some(50),
            reset: some(20),
        };
        Self {
            seed,
            pairs: 1 + rng.place(3),
            faulty: Duration::from_millis(rng.between(500, 8_000)),
            plant: Plant::Nothing,
            road,
            windows,
            strategy: rng.pick(&strategies).unwrap_or(Strategy::Default),
            faults,
            pace,
            scale: scale.clamp(4, 1000),
        }
    }

    /// The same, with something broken.
    #[must_use]
    pub fn planting(self, plant: Plant) -> Self {
        Self { plant, ..self }
    }

    /// What both ends are set up with.
    pub(crate) fn config(&self) -> SessionConfig {
        let limits = self.limits();
        let flow = self.flow(&limits);
        SessionConfig {
            limits,
            flow: flow.unwrap_or_default(),
            ..SessionConfig::default()
        }
    }

    fn limits(&self) -> Limits {
        let wire = match self.windows {
            Windows::Default => v2::Limits::default(),
            Windows::Least => v2::Limits {
                connection_window: 64 << 10,
                class_window: vec![4096, 4096, 4096, 64 << 10],
                ..Default::default()
            },
            Windows::Random(seed) => {
                let mut rng = Rng::new(seed);
                let mut bytes = |least: u64| {
                    let doublings = rng.below(9);
                    let bytes = rng.between(least, least << doublings);
                    u32::try_from(bytes).unwrap_or(u32::MAX)
                };
                v2::Limits {
                    connection_window: bytes(64 << 10),
                    class_window: vec![bytes(4096), bytes(4096), bytes(4096), bytes(64 << 10)],
                    ..Default::default()
                }
            }
        };
        // No window is under the least, so this cannot fail; the default would do as well.
        Limits::from_wire(&wire).unwrap_or_default()
    }

    fn flow(&self, limits: &Limits) -> Option<FlowControl> {
        let strategy = |window| match self.strategy {
            Strategy::Default => None,
            Strategy::Fixed => Some(FlowControlStrategy::FixedWindow(window)),
            Strategy::Gradient => Some(FlowControlStrategy::CongestionAware {
                algorithm: CongestionAlgorithm::DelayGradient,
            }),
            Strategy::Learned => Some(FlowControlStrategy::Learned {
                model: LearnedModel::Bandit { seed: self.seed },
            }),
        };
        let mut flow = FlowControl::default();
        for class in StreamClass::WITH_STREAMS {
            flow = flow
                .with_class(class, strategy(limits.window(class))?)
                .ok()?;
        }
        flow.with_connection(strategy(limits.connection_window())?)
            .ok()
    }
}

impl fmt::Display for PairOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} pairs for {:?}, an act every {:?}, {:?}, windows {:?}, strategy {:?}, {:?}",
            self.seed,
            self.pairs,
            self.faulty,
            self.pace,
            self.road,
            self.windows,
            self.strategy,
            self.faults
        )
    }
}
