//! How random a text looks.

use std::collections::BTreeMap;

/// Whether a text looks like a key that a machine made: long, of one piece, without a pattern.
///
/// Sums of files and names of commits look the same and are no secrets, so texts of only
/// hexadecimal digits are left alone, and so are paths, addresses and lists.
pub(super) fn is_random(text: &str) -> bool {
    const BITS_MIN: f64 = 4.2;
    let plain = |c: char| c.is_ascii_alphanumeric() || "+/=_-.".contains(c);
    let length = text.chars().count();
    if !(32..=512).contains(&length) || !text.chars().all(plain) {
        return false;
    }
    let hexadecimal = text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let words = text
        .split(['/', '.', '-', '_'])
        .filter(|word| word.len() > 2);
    let is_word = |word: &str| {
        word.chars().all(|c| c.is_ascii_lowercase()) || word.chars().all(|c| c.is_ascii_digit())
    };
    let kinds = [
        text.contains(|c: char| c.is_ascii_lowercase()),
        text.contains(|c: char| c.is_ascii_uppercase()),
        text.contains(|c: char| c.is_ascii_digit()),
    ];
    let mixed = kinds.iter().filter(|there| **there).count() >= 2;
    let worded = words.clone().filter(|word| is_word(word)).count() * 2 > words.count();
    !hexadecimal && mixed && !worded && bits(text) >= BITS_MIN
}

/// Shannon's entropy in bits for each character.
fn bits(text: &str) -> f64 {
    let mut counts: BTreeMap<char, u32> = BTreeMap::new();
    let mut length = 0_u32;
    for c in text.chars() {
        *counts.entry(c).or_default() += 1;
        length += 1;
    }
    let share = |count: &u32| f64::from(*count) / f64::from(length.max(1));
    counts.values().map(share).map(|p| -p * p.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_look_random_and_names_do_not() {
        let cases = [
            ("9f8Zq2LmX0vRtY7uPa3sKdE5wNbC1hGj", true),
            ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzzzKEYabc12", true),
            ("404E635266556A586E3272357538782F413F4428472B4B62", false),
            ("2fd4e1c67a2d28fced849ee1bb76e7391b93eb12", false),
            ("target/x86_64-unknown-linux-gnu/release/build-tool", false),
            ("registry.example.org/team/project-name/image-name", false),
            ("a sentence with several words and 12 numbers in it", false),
            ("short1A", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_random(text), expected, "{text} {}", bits(text));
        }
    }
}
