//! Durations as people write them: `90s`, `20m`, `1h30m`, `2d`, `500ms`.

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Milliseconds of a duration; none when the text is not one. Spaces between parts are allowed.
pub(crate) fn parse_ms(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut sum: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (part, after) = part(rest)?;
        sum = sum.checked_add(part)?;
        rest = after.trim_start();
    }
    Some(sum)
}

/// One number with its unit, and what follows.
fn part(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let letters = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some((number.parse::<u64>().ok()?.checked_mul(*factor)?, rest))
}

/// A duration in the largest units that show it exactly: `1h30m`.
pub(crate) fn show_ms(mut ms: u64) -> String {
    let mut out = String::new();
    for (unit, factor) in UNITS.iter().rev() {
        if ms >= *factor {
            out.push_str(&format!("{}{unit}", ms / factor));
            ms %= factor;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        let cases = [
            ("20m", Some(1_200_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("2d", Some(172_800_000)),
            ("0s", Some(0)),
            ("20", None),
            ("m", None),
            ("", None),
            ("1.5h", None),
            ("-1s", None),
            ("1w", None),
            ("99999999999999999999d", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_ms(text), expected, "{text}");
        }
        assert_eq!(show_ms(5_400_000), "1h30m");
        assert_eq!(show_ms(0), "0s");
    }
}
