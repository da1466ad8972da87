//! Hides secret values in a byte stream, wherever the stream happens to be cut.
//!
//! Each secret is searched in many [`forms`], all at once by an Aho-Corasick automaton. Its state is
//! the longest end of the stream that could still become a secret, so exactly those bytes are held
//! back and no more: a line that cannot be the start of a secret leaves at once. Every byte that
//! belongs to any occurrence is hidden, also where occurrences overlap; each hidden stretch becomes
//! one `***`.
//!
//! The automaton would be too slow for every byte. It runs only around the places that a filter
//! finds suspicious, and at the two ends of what was pushed.

mod filter;
mod forms;
mod stretches;
mod trie;

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use self::filter::Filter;
use self::stretches::Stretches;
use self::trie::{ROOT, State, Trie};
use crate::limits::{MASKED_BYTES_MIN, SECRET_ENCODED_BYTES_MAX};

pub use self::forms::forms;

/// What stands in the log for a hidden stretch.
pub const MASK: &[u8] = b"***";

/// The automaton goes on by itself while at least this much could become a secret. It makes going
/// back to where that began, for the filter, cheap: a few bytes, whatever the text.
const DEPTH_SHALLOW: usize = 8;

/// The secrets of one job, ready to be searched.
pub struct Patterns {
    trie: Trie,
    filter: Filter,
    forms: BTreeSet<Vec<u8>>,
    too_short: Vec<String>,
    too_long: Vec<String>,
}

impl Patterns {
    /// Builds the automaton from `(name, value)` pairs. Empty values are ignored.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let (mut too_short, mut too_long) = (Vec::new(), Vec::new());
        let mut all = BTreeSet::new();
        for (name, value) in secrets {
            match value.trim_ascii().len() {
                0 => {}
                length if length < MASKED_BYTES_MIN => too_short.push(name.to_owned()),
                length if length > SECRET_ENCODED_BYTES_MAX => too_long.push(name.to_owned()),
                _ => {}
            }
            all.append(&mut forms(value));
        }
        Self {
            too_short,
            too_long,
            ..Self::of(all)
        }
    }

    /// The same and more values, in all their forms.
    pub fn with<'a>(&self, values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut all: BTreeSet<_> = values.into_iter().flat_map(forms).collect();
        all.extend(self.forms.iter().cloned());
        Self {
            too_short: self.too_short.clone(),
            too_long: self.too_long.clone(),
            ..Self::of(all)
        }
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// Names of the secrets that are too short to be masked.
    pub fn too_short(&self) -> &[String] {
        &self.too_short
    }

    /// Names of the secrets that are so long that only their plain lines are masked.
    pub fn too_long(&self) -> &[String] {
        &self.too_long
    }

    /// Hides secrets in one complete text.
    pub fn mask(self: &Rc<Self>, text: &str) -> String {
        String::from_utf8_lossy(&self.mask_bytes(text.as_bytes())).into_owned()
    }

    /// Hides secrets in one complete text that need not be UTF-8.
    pub fn mask_bytes(self: &Rc<Self>, text: &[u8]) -> Vec<u8> {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut out = Vec::with_capacity(text.len());
        let mut masker = Masker::new(Rc::clone(self));
        masker.push(text, &mut out);
        masker.finish(&mut out);
        out
    }

    fn of(forms: BTreeSet<Vec<u8>>) -> Self {
        Self {
            trie: Trie::new(&forms),
            filter: Filter::new(&forms),
            forms,
            too_short: Vec::new(),
            too_long: Vec::new(),
        }
    }
}

/// One stream being masked.
pub struct Masker {
    patterns: Rc<Patterns>,
    /// Where the automaton stands after the held bytes.
    state: State,
    /// Bytes that may still become part of a secret.
    held: Vec<u8>,
    /// What is to be hidden, counted from the first held byte on.
    hidden: Stretches,
    /// The last byte given out belonged to a hidden stretch, whose `***` is already out.
    hiding: bool,
}

impl Masker {
    /// A masker at the start of a stream.
    pub fn new(patterns: Rc<Patterns>) -> Self {
        Self {
            patterns,
            state: ROOT,
            held: Vec::new(),
            hidden: Stretches::default(),
            hiding: false,
        }
    }

    /// Takes the next bytes of the stream and appends to `out` what is certain by now.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        let end = self.held.len() + input.len();
        let start = self.scan(input);
        self.give(input, start, out);
        self.hidden.advance(start);
        let fresh = input.len().saturating_sub(end - start);
        self.held.drain(..start.min(self.held.len()));
        self.held
            .extend_from_slice(input.get(fresh..).unwrap_or_default());
    }

    /// Ends the stream: what was held back was no secret after all.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let end = self.held.len();
        self.give(&[], end, out);
        self.hidden.advance(end);
        self.held.clear();
        self.state = ROOT;
    }

    /// Searches for other secrets from now on, also in what is held back.
    pub fn renew(&mut self, patterns: Rc<Patterns>, out: &mut Vec<u8>) {
        self.patterns = patterns;
        self.state = ROOT;
        let held = std::mem::take(&mut self.held);
        self.push(&held, out);
    }

    /// What it searches for.
    pub fn patterns(&self) -> &Rc<Patterns> {
        &self.patterns
    }

    /// Whether bytes are held back.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Finds what is to be hidden in the held bytes and `input`, counted as one text; returns the
    /// place from which on nothing is certain yet.
    fn scan(&mut self, input: &[u8]) -> usize {
        let patterns = Rc::clone(&self.patterns);
        let held = self.held.len();
        let mut at = 0;
        if let Some(last) = held.checked_sub(1) {
            // Byte by byte, until everything held is decided.
            match self.walk(&patterns, input, 0, Some(last)) {
                Walked::Open(start) => at = start - held,
                Walked::End(start) => return start,
            }
        }
        loop {
            let found = patterns.filter.find(input, at);
            let (Ok(place) | Err(place)) = found;
            let begin = place.saturating_sub(patterns.filter.reach()).max(at);
            self.state = ROOT;
            let until = found.ok().map(|place| held + place);
            match self.walk(&patterns, input, begin.min(input.len()), until) {
                Walked::Open(start) => at = start - held,
                Walked::End(start) => return start,
            }
        }
    }

    /// Runs the automaton over `input` from `begin` on: to its end, or until no pattern is possible
    /// any more that began at or before `until`, and not much is open.
    fn walk(
        &mut self,
        patterns: &Patterns,
        input: &[u8],
        begin: usize,
        until: Option<usize>,
    ) -> Walked {
        let mut end = self.held.len() + begin;
        for &byte in input.get(begin..).unwrap_or_default() {
            self.state = patterns.trie.step(self.state, byte);
            end += 1;
            let matched = patterns.trie.matched(self.state);
            if matched > 0 {
                self.hidden.add(end - matched..end);
            }
            let depth = patterns.trie.depth(self.state);
            if depth < DEPTH_SHALLOW && until.is_some_and(|until| end - depth > until) {
                return Walked::Open(end - depth);
            }
        }
        Walked::End(end - patterns.trie.depth(self.state))
    }

    /// Gives out the first `count` bytes of what is held and `input`.
    fn give(&mut self, input: &[u8], count: usize, out: &mut Vec<u8>) {
        let hidden = std::mem::take(&mut self.hidden);
        let mut at = 0;
        for stretch in hidden.until(count) {
            self.give_clear(input, at..stretch.start, out);
            if !self.hiding {
                out.extend_from_slice(MASK);
                self.hiding = true;
            }
            at = stretch.end;
        }
        self.give_clear(input, at..count, out);
        self.hidden = hidden;
    }

    fn give_clear(&mut self, input: &[u8], part: Range<usize>, out: &mut Vec<u8>) {
        if part.is_empty() {
            return;
        }
        self.hiding = false;
        let held = self.held.len();
        let of = |bytes, part: Range<usize>| <[u8]>::get(bytes, part).unwrap_or_default();
        out.extend_from_slice(of(&self.held, part.start.min(held)..part.end.min(held)));
        out.extend_from_slice(of(
            input,
            part.start.max(held) - held..part.end.max(held) - held,
        ));
    }
}

/// Where the automaton left off, and where what is open begins.
enum Walked {
    /// Before the end of the input.
    Open(usize),
    /// At its end.
    End(usize),
}

#[cfg(test)]
mod tests;
