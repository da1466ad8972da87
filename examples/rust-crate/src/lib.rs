//! Counts words.

use std::collections::BTreeMap;

/// How often each word occurs in `text`, in lower case and without punctuation around it.
///
/// ```
/// let counts = tally::count("One fish, two fish.");
/// assert_eq!(counts["fish"], 2);
/// ```
pub fn count(text: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let words = text
        .split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    for word in words.filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    counts
}

/// The `n` most frequent words, the alphabet deciding between equals.
pub fn top(counts: &BTreeMap<String, usize>, n: usize) -> Vec<(&str, usize)> {
    let mut words: Vec<(&str, usize)> = counts
        .iter()
        .map(|(word, &count)| (word.as_str(), count))
        .collect();
    words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    words.truncate(n);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_split_words() {
        let counts = count("Fish! fish? \"FISH\" -- dish");
        assert_eq!(counts["fish"], 3);
        assert_eq!(counts["dish"], 1);
        assert_eq!(counts.len(), 2);
    }

    #[test]
    fn the_alphabet_decides_between_equals() {
        let counts = count("b a c c");
        assert_eq!(top(&counts, 2), [("c", 2), ("a", 1)]);
    }

    #[test]
    fn nothing_counts_as_nothing() {
        assert!(count(" \n\t ...").is_empty());
    }
}
