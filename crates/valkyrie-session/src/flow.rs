//! How large windows are: the choice of a strategy, and what a window looks like from outside.

use std::sync::Arc;

use valkyrie_frame::StreamClass;
use valkyrie_frame::limits::{CONNECTION_WINDOW_BYTES_MAX, STREAM_WINDOW_BYTES_MAX};

use crate::config::{LimitError, Limits};
use crate::limits::{
    CLASS_WINDOW_BYTES_MAX, CLASS_WINDOW_BYTES_MIN, LOG_WINDOW_BYTES_MIN, STREAM_WINDOW_BYTES_MIN,
};

/// How the receive windows of a class, or that of the connection, follow the traffic.
///
/// A window only grows on the wire: a smaller one means that less is granted from then on. All
/// strategies look at a window only when credit is about to be given back, and at most once per
/// round trip, so none of them costs anything per frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlowControlStrategy {
    /// Always this many bytes.
    FixedWindow(u32),
    /// Doubles when the sender used all of it within a round trip while the application had read
    /// everything, and keeps what made the stream faster; halves for each second in which little
    /// of it was used. The default of every class.
    AdaptiveWindow {
        /// Bytes at first.
        initial: u32,
        /// Most bytes.
        max: u32,
        /// Fewest bytes.
        min: u32,
    },
    /// Grows while it is used up and the link answers promptly, shrinks when what is under way
    /// only makes a queue longer. Begins with the window of [`Limits`].
    CongestionAware {
        /// What tells it that a queue builds up.
        algorithm: CongestionAlgorithm,
    },
    /// Learns which size is worth its memory. Begins with the window of [`Limits`].
    Learned {
        /// What learns.
        model: LearnedModel,
    },
}

/// How [`FlowControlStrategy::CongestionAware`] notices a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CongestionAlgorithm {
    /// By round trips that become longer from one to the next.
    #[default]
    DelayGradient,
}

/// What [`FlowControlStrategy::Learned`] decides with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LearnedModel {
    /// A bandit over sizes that double from the smallest to the largest; it moves to a
    /// neighbouring size now and then and remembers what each was worth. Its choices follow from
    /// the seed and the traffic alone.
    Bandit {
        /// Where its chance begins.
        seed: u64,
    },
}

/// The strategies of one side, by class and for the connection.
///
/// Where none is chosen, windows are adaptive and begin with those of [`Limits`].
///
/// ```
/// use valkyrie_frame::StreamClass;
/// use valkyrie_session::{FlowControl, FlowControlStrategy, SessionConfig};
///
/// let flow = FlowControl::default()
///     .with_class(StreamClass::Data, FlowControlStrategy::FixedWindow(1 << 20))?
///     .with_connection(FlowControlStrategy::FixedWindow(8 << 20))?;
/// let config = SessionConfig { flow, ..SessionConfig::default() };
/// # Ok::<(), valkyrie_session::LimitError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowControl {
    /// Shared, because most connections of a program have the same.
    chosen: Option<Arc<Chosen>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Chosen {
    classes: [Option<FlowControlStrategy>; 4],
    connection: Option<FlowControlStrategy>,
}

impl FlowControl {
    /// Chooses the strategy of the streams of `class`.
    ///
    /// # Errors
    /// [`LimitError`] when a window of it is under the least of the class, or its least is above
    /// its first or that above its greatest. What is over 16 MiB is taken as 16 MiB.
    pub fn with_class(
        mut self,
        class: StreamClass,
        strategy: FlowControlStrategy,
    ) -> Result<Self, LimitError> {
        let strategy = strategy.checked(least_of(class), STREAM_WINDOW_BYTES_MAX)?;
        let chosen = Arc::make_mut(self.chosen.get_or_insert_default());
        if let Some(slot) = class
            .index()
            .and_then(|index| chosen.classes.get_mut(index))
        {
            *slot = Some(strategy);
        }
        Ok(self)
    }

    /// Chooses the strategy of the streams of every class.
    ///
    /// # Errors
    /// As [`with_class`](Self::with_class).
    pub fn with_classes(mut self, strategy: FlowControlStrategy) -> Result<Self, LimitError> {
        for class in StreamClass::WITH_STREAMS {
            self = self.with_class(class, strategy)?;
        }
        Ok(self)
    }

    /// Chooses the strategy of the connection's window.
    ///
    /// # Errors
    /// As [`with_class`](Self::with_class).
    pub fn with_connection(mut self, strategy: FlowControlStrategy) -> Result<Self, LimitError> {
        let strategy = strategy.checked(LOG_WINDOW_BYTES_MIN, CONNECTION_WINDOW_BYTES_MAX)?;
        Arc::make_mut(self.chosen.get_or_insert_default()).connection = Some(strategy);
        Ok(self)
    }

    /// `limits` with the first windows of the strategies that name one.
    pub(crate) fn apply(&self, mut limits: Limits) -> Limits {
        for class in StreamClass::WITH_STREAMS {
            if let Some(initial) = self.class(class).and_then(FlowControlStrategy::initial) {
                limits.set_window(class, initial);
            }
        }
        if let Some(initial) = self.connection().and_then(FlowControlStrategy::initial) {
            limits.set_connection_window(initial);
        }
        limits
    }

    /// How the window of a stream of `class` follows the traffic.
    pub(crate) fn of_stream(&self, class: StreamClass, limits: &Limits) -> Policy {
        let index = class.index().unwrap_or_default();
        let of = |bounds: [u32; 4]| bounds.get(index).copied().unwrap_or_default();
        let (min, max) = (of(CLASS_WINDOW_BYTES_MIN), of(CLASS_WINDOW_BYTES_MAX));
        Policy::new(
            self.class(class),
            limits.window(class),
            [least_of(class), min, max],
        )
    }

    /// How the window of the channel of `class` follows the traffic. It keeps its first size at
    /// least: what comes on a channel is taken at once, so a smaller window saves no memory.
    pub(crate) fn of_channel(&self, class: StreamClass, limits: &Limits) -> Policy {
        let policy = self.of_stream(class, limits);
        let min = policy.min.max(limits.window(class));
        Policy { min, ..policy }
    }

    /// How the connection's window follows the traffic. Nothing is kept in it either.
    pub(crate) fn of_connection(&self, limits: &Limits) -> Policy {
        let initial = limits.connection_window();
        let max = CONNECTION_WINDOW_BYTES_MAX;
        Policy::new(self.connection(), initial, [initial, initial, max])
    }

    fn class(&self, class: StreamClass) -> Option<FlowControlStrategy> {
        let classes = &self.chosen.as_ref()?.classes;
        classes.get(class.index()?).copied().flatten()
    }

    fn connection(&self) -> Option<FlowControlStrategy> {
        self.chosen.as_ref()?.connection
    }
}

impl FlowControlStrategy {
    /// The first window, where the strategy names one.
    const fn initial(self) -> Option<u32> {
        match self {
            Self::FixedWindow(initial) | Self::AdaptiveWindow { initial, .. } => Some(initial),
            Self::CongestionAware { .. } | Self::Learned { .. } => None,
        }
    }

    fn checked(self, least: u32, greatest: u32) -> Result<Self, LimitError> {
        let check = |name, value, min| match value < min {
            true => Err(LimitError { name, value, min }),
            false => Ok(value.min(greatest)),
        };
        Ok(match self {
            Self::FixedWindow(bytes) => Self::FixedWindow(check("fixed window", bytes, least)?),
            Self::AdaptiveWindow { initial, max, min } => Self::AdaptiveWindow {
                min: check("min of an adaptive window", min, least)?,
                initial: check("initial of an adaptive window", initial, min)?,
                max: check("max of an adaptive window", max, initial)?,
            },
            other => other,
        })
    }
}

/// The smallest window that streams of a class may have.
const fn least_of(class: StreamClass) -> u32 {
    match class {
        StreamClass::Logs => LOG_WINDOW_BYTES_MIN,
        _ => STREAM_WINDOW_BYTES_MIN,
    }
}

/// What may become of one window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) rule: Rule,
    pub(crate) min: u32,
    pub(crate) max: u32,
}

/// What moves a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Fixed,
    Adaptive,
    DelayGradient,
    Bandit { seed: u64 },
}

impl Policy {
    fn new(strategy: Option<FlowControlStrategy>, initial: u32, bounds: [u32; 3]) -> Self {
        let [least, min, max] = bounds;
        // Whoever announces a window outside the usual range means it.
        let (min, max) = (min.min(initial), max.max(initial));
        let of = |rule| Self { rule, min, max };
        match strategy {
            None => of(Rule::Adaptive),
            Some(FlowControlStrategy::FixedWindow(bytes)) => Self {
                rule: Rule::Fixed,
                min: bytes,
                max: bytes,
            },
            Some(FlowControlStrategy::AdaptiveWindow { max, min, .. }) => Self {
                rule: Rule::Adaptive,
                min,
                max,
            },
            Some(FlowControlStrategy::CongestionAware {
                algorithm: CongestionAlgorithm::DelayGradient,
            }) => of(Rule::DelayGradient).down_to(least),
            Some(FlowControlStrategy::Learned {
                model: LearnedModel::Bandit { seed },
            }) => of(Rule::Bandit { seed }).down_to(least),
        }
    }

    /// The same for a strategy that knows when less is enough, not only when little is used.
    fn down_to(self, least: u32) -> Self {
        let min = self.min.min(least);
        Self { min, ..self }
    }

    /// By how much a window that is too small is multiplied at once, and one that is too large.
    const fn factors(&self) -> (f32, f32) {
        match self.rule {
            Rule::Fixed => (1.0, 1.0),
            Rule::Adaptive | Rule::Bandit { .. } => (2.0, 0.5),
            Rule::DelayGradient => (2.0, 0.75),
        }
    }
}

/// A receive window as it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlowWindow {
    /// Bytes that the peer may be ahead of the application.
    pub size: u32,
    /// Bytes of it that the peer has used and that were not given back.
    pub consumed: u32,
    /// Bytes that the peer may still send; more than `size - consumed` after the window shrank.
    pub available: u32,
    /// The largest it may become.
    pub max_size: u32,
    /// The smallest it may become.
    pub min_size: u32,
    /// By how much it is multiplied when it was too small.
    pub growth_factor: f32,
    /// By how much it is multiplied when it was too large.
    pub shrink_factor: f32,
}

impl FlowWindow {
    pub(crate) const fn new(policy: &Policy, size: u32, consumed: u32, available: u32) -> Self {
        let (growth_factor, shrink_factor) = policy.factors();
        Self {
            size,
            consumed,
            available,
            max_size: policy.max,
            min_size: policy.min,
            growth_factor,
            shrink_factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_out_of_order_or_too_small_are_refused() {
        let adaptive =
            |initial, max, min| FlowControlStrategy::AdaptiveWindow { initial, max, min };
        let refused = |class, strategy| {
            let error = FlowControl::default().with_class(class, strategy);
            error.unwrap_err().name
        };
        let data = StreamClass::Data;
        assert_eq!(
            refused(data, FlowControlStrategy::FixedWindow(4095)),
            "fixed window"
        );
        assert_eq!(
            refused(data, adaptive(8192, 16_384, 4000)),
            "min of an adaptive window"
        );
        assert_eq!(
            refused(data, adaptive(4096, 16_384, 8192)),
            "initial of an adaptive window"
        );
        assert_eq!(
            refused(data, adaptive(8192, 4096, 4096)),
            "max of an adaptive window"
        );
        let logs = FlowControlStrategy::FixedWindow(65_535);
        assert_eq!(refused(StreamClass::Logs, logs), "fixed window");
    }

    #[test]
    fn chosen_windows_are_announced_and_the_others_stay() {
        let flow = FlowControl::default()
            .with_class(
                StreamClass::Data,
                FlowControlStrategy::FixedWindow(u32::MAX),
            )
            .unwrap()
            .with_connection(FlowControlStrategy::FixedWindow(1 << 20))
            .unwrap();
        let limits = flow.apply(Limits::default());
        assert_eq!(limits.window(StreamClass::Data), 16 << 20);
        assert_eq!(limits.window(StreamClass::Jobs), 64 << 10);
        assert_eq!(limits.connection_window(), 1 << 20);
        let policy = flow.of_stream(StreamClass::Jobs, &limits);
        assert_eq!(
            (policy.rule, policy.min, policy.max),
            (Rule::Adaptive, 4096, 1 << 20)
        );
        let policy = flow.of_channel(StreamClass::Jobs, &limits);
        assert_eq!(policy.min, 64 << 10);
    }
}
