//! Durations as reports write them: seconds, in the notation of some locale.

/// A test that says it took longer is taken for a mistake of its clock.
const SECONDS_MAX: f64 = 30.0 * 86_400.0;

/// The duration in microseconds; 0 for what is missing, negative or no number.
///
/// Both `1,234.5` and `1.234,5` are in use, and `0,25` for a quarter: the last separator is the
/// decimal one.
pub(super) fn microseconds(text: &str) -> u64 {
    let text = text.trim().trim_end_matches('s').trim_end();
    let separators = |c: char| c == '.' || c == ',';
    let plain = match text.rfind(separators) {
        Some(last) => {
            let (whole, fraction) = text.split_at(last);
            let fraction = fraction.get(1..).unwrap_or_default();
            format!("{}.{fraction}", whole.replace(separators, ""))
        }
        None => text.to_owned(),
    };
    let seconds = plain
        .replace(['\u{a0}', '\u{202f}', ' ', '\''], "")
        .parse::<f64>();
    match seconds {
        Ok(seconds) if seconds > 0.0 && seconds <= SECONDS_MAX => (seconds * 1e6).round() as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_in_every_notation() {
        let check = |text: &str, expected: u64| assert_eq!(microseconds(text), expected, "{text}");
        check("0.25", 250_000);
        check("0,25", 250_000);
        check("1,234.5", 1_234_500_000);
        check("1.234,5", 1_234_500_000);
        check("1 234,5", 1_234_500_000);
        check("3", 3_000_000);
        check("1.2E-4", 120);
        check("0.5s", 500_000);
        for nothing in ["", "-1", "NaN", "inf", "soon", "1e300", "-0"] {
            check(nothing, 0);
        }
    }
}
