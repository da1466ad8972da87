//! Colours, and the words for times and sizes.

use std::time::Duration;

use clap::ValueEnum;

/// The values of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether escape sequences for colours are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// They are.
    On,
    /// They are not.
    Off,
}

/// Where output goes.
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

    /// Something wrong.
    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// Something unusual.
    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
}

/// A time in three digits and a unit: `850 ns`, `41.2 us`, `1.05 ms`, `12.0 s`.
pub(crate) fn time(duration: Duration) -> String {
    let ns = duration.as_secs_f64() * 1e9;
    scaled(ns, 1000.0, &["ns", "us", "ms", "s"])
}

/// Bytes in three digits and a unit: `512 B`, `1.50 KiB`, `2.00 GiB`.
pub(crate) fn size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A number in three digits and a letter: `950`, `1.25 k`, `14.0 M`.
pub(crate) fn number(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G"])
        .trim_end()
        .to_owned()
}

fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut units = units.iter().peekable();
    let mut unit = units.next().copied().unwrap_or_default();
    let smallest = unit;
    // What would be rounded to the next unit belongs there.
    while value >= step * 0.9995 && units.peek().is_some() {
        value /= step;
        unit = units.next().copied().unwrap_or_default();
    }
    let digits = match value {
        _ if unit == smallest => 0,
        ..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_three_digits_and_a_unit() {
        let times = [
            (0, "0 ns"),
            (850, "850 ns"),
            (41_230, "41.2 us"),
            (999_999, "1.00 ms"),
            (1_050_000, "1.05 ms"),
            (12_000_000_000, "12.0 s"),
            (4_000_000_000_000, "4000 s"),
        ];
        for (ns, expected) in times {
            assert_eq!(time(Duration::from_nanos(ns)), expected);
        }
        assert_eq!(size(512.0), "512 B");
        assert_eq!(size(1536.0), "1.50 KiB");
        assert_eq!(number(950.0), "950");
        assert_eq!(number(14_020_000.0), "14.0 M");
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
