//! The name that somebody probably meant.

use crate::limits::CANDIDATES_MAX;

/// The candidate nearest to `name`, if any is near enough to be a slip of the keyboard.
///
/// Near enough is a third of the longer name's characters, at least one; the first of equals wins.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = normalised(name);
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter_map(|candidate| {
            let other = normalised(candidate);
            let limit = name.len().max(other.len()).div_ceil(3).max(1);
            let distance = distance(&name, &other, limit)?;
            Some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

// Case and the choice between `-` and `_` are never what tells two names apart.
fn normalised(name: &str) -> Vec<char> {
    name.chars()
        .take(40)
        .flat_map(char::to_lowercase)
        .map(|c| if c == '_' { '-' } else { c })
        .collect()
}

/// Edits (insert, delete, replace, swap of neighbours) from `a` to `b`; none above `limit`.
fn distance(a: &[char], b: &[char], limit: usize) -> Option<usize> {
    let (a, b) = without_common_ends(a, b);
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(last.len());
        row.push(i + 1);
        for (j, to) in b.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX - 1);
            let mut cost = at(&last, j) + usize::from(from != to);
            cost = cost.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(to) && b.get(j - 1) == Some(from);
            if swapped {
                cost = cost.min(at(&before_last, j - 1) + 1);
            }
            row.push(cost);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|distance| *distance <= limit)
}

/// Most slips change one place: what is the same at both ends need not be looked at.
fn without_common_ends<'c>(a: &'c [char], b: &'c [char]) -> (&'c [char], &'c [char]) {
    let start = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (
        a.get(start..).unwrap_or_default(),
        b.get(start..).unwrap_or_default(),
    );
    let end = a
        .iter()
        .rev()
        .zip(b.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    (
        a.get(..a.len() - end).unwrap_or_default(),
        b.get(..b.len() - end).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let keys = ["needs", "runs-on", "steps", "timeout", "if"];
        let cases = [
            ("neds", Some("needs")),
            ("runs_on", Some("runs-on")),
            ("Steps", Some("steps")),
            ("tiemout", Some("timeout")),
            ("fi", Some("if")),
            ("stage", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, keys), expected, "{name}");
        }
    }
}
