//! Colours, symbols and the words for times and results.

use crate::args::ColorWhen;

/// Whether escape sequences for colours are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// They are.
    On,
    /// They are not.
    Off,
}

/// Whether output goes to a terminal that understands cursor movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    /// A person's terminal.
    Terminal,
    /// A file, a pipe or a terminal that only prints.
    Stream,
}

impl Colour {
    /// Decides from `--color`, the sink and the environment variable `NO_COLOR`.
    pub(crate) fn choose(when: ColorWhen, sink: Sink, no_color: Option<&str>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty());
        match when {
            ColorWhen::Always => Self::On,
            ColorWhen::Auto if sink == Sink::Terminal && !refused => Self::On,
            ColorWhen::Auto | ColorWhen::Never => Self::Off,
        }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::On => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Off => text.to_owned(),
        }
    }

    /// Headings and names.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What may be overlooked.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Something to fix.
    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// All well.
    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Worth a look.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// Going on.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
}

/// A duration of `ms` milliseconds in at most seven characters: `12ms`, `3.4s`, `2m05s`, `1h07m`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 if ms < 100 => format!("{ms}ms"),
        0..60 => format!("{seconds}.{}s", ms % 1_000 / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// How long before `now_ms` something happened: `just now`, `5m ago`, `3d ago`.
pub(crate) fn ago(then_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1_000;
    match seconds {
        0..10 => "just now".to_owned(),
        10..60 => format!("{seconds}s ago"),
        60..3_600 => format!("{}m ago", seconds / 60),
        3_600..86_400 => format!("{}h ago", seconds / 3_600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_right() {
        let cases = [
            (0, "0ms"),
            (99, "99ms"),
            (100, "0.1s"),
            (1_250, "1.2s"),
            (59_999, "59.9s"),
            (60_000, "1m00s"),
            (125_000, "2m05s"),
            (4_020_000, "1h07m"),
        ];
        for (ms, expected) in cases {
            assert_eq!(duration(ms), expected);
        }
    }

    #[test]
    fn ages_round_down() {
        assert_eq!(ago(0, 9_999), "just now");
        assert_eq!(ago(0, 61_000), "1m ago");
        assert_eq!(ago(0, 200_000_000), "2d ago");
        assert_eq!(ago(5, 0), "just now");
    }

    #[test]
    fn colour_follows_flag_terminal_and_environment() {
        use ColorWhen::{Always, Auto, Never};
        let cases = [
            (Auto, Sink::Terminal, None, Colour::On),
            (Auto, Sink::Terminal, Some("1"), Colour::Off),
            (Auto, Sink::Terminal, Some(""), Colour::On),
            (Auto, Sink::Stream, None, Colour::Off),
            (Always, Sink::Stream, Some("1"), Colour::On),
            (Never, Sink::Terminal, None, Colour::Off),
        ];
        for (when, sink, no_color, expected) in cases {
            assert_eq!(Colour::choose(when, sink, no_color), expected);
        }
    }
}
