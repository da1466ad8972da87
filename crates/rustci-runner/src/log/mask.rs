//! Hides secret values in a byte stream, wherever the stream happens to be cut.
//!
//! All patterns are searched at once by an Aho-Corasick automaton. Its state is the longest end of
//! the stream that could still become a secret, so exactly those bytes are held back and no more:
//! a line that cannot be the start of a secret leaves at once. Every byte that belongs to any
//! occurrence is hidden, also where occurrences overlap; each hidden stretch becomes one `***`.

use std::rc::Rc;

use crate::limits::MASKED_BYTES_MIN;

/// What stands in the log for a hidden stretch.
pub const MASK: &[u8] = b"***";

const ROOT: u32 = 0;

/// A node of the automaton: a prefix of at least one pattern.
#[derive(Default)]
struct Node {
    next: Vec<(u8, u32)>,
    /// The node of the longest proper suffix that is itself a prefix of a pattern.
    fail: u32,
    depth: u32,
    /// Length of the longest pattern that ends here; 0 when none does.
    matched: u32,
}

/// The secrets of one job, ready to be searched.
///
/// A value of several lines is searched line by line, without the white space around each line,
/// because logs indent and re-wrap it. Only when one of its lines is too short for that, the value
/// is also searched as a whole.
pub struct Patterns {
    nodes: Vec<Node>,
    /// Whether a byte starts any pattern: what the fast path scans for.
    starts: [bool; 256],
    too_short: Vec<String>,
}

impl Patterns {
    /// Builds the automaton from `(name, value)` pairs. Empty values are ignored.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut patterns = Self {
            nodes: vec![Node::default()],
            starts: [false; 256],
            too_short: Vec::new(),
        };
        for (name, value) in secrets {
            patterns.add(name, value.trim_ascii());
        }
        patterns.link();
        patterns
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Names of the secrets that are too short to be masked.
    pub fn too_short(&self) -> &[String] {
        &self.too_short
    }

    /// Hides secrets in one complete text.
    pub fn mask(self: &Rc<Self>, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        let mut out = Vec::with_capacity(text.len());
        let mut masker = Masker::new(Rc::clone(self));
        masker.push(text.as_bytes(), &mut out);
        masker.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        if value.is_empty() {
            return;
        }
        if value.len() < MASKED_BYTES_MIN {
            self.too_short.push(name.to_owned());
            return;
        }
        let lines = || value.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        for line in lines().filter(|line| line.len() >= MASKED_BYTES_MIN) {
            self.insert(line);
        }
        if lines().any(|line| !line.is_empty() && line.len() < MASKED_BYTES_MIN) {
            self.insert(value);
        }
    }

    fn insert(&mut self, pattern: &[u8]) {
        let mut at = ROOT;
        for &byte in pattern {
            at = match self.child(at, byte) {
                Some(child) => child,
                None => self.grow(at, byte),
            };
        }
        if let Some(start) = pattern
            .first()
            .and_then(|&b| self.starts.get_mut(usize::from(b)))
        {
            *start = true;
        }
        let node = self.node_mut(at);
        node.matched = node.depth;
    }

    fn grow(&mut self, parent: u32, byte: u8) -> u32 {
        let index = u32::try_from(self.nodes.len()).expect("secrets are far below 4 GiB");
        let depth = self.node(parent).depth + 1;
        self.nodes.push(Node {
            depth,
            ..Node::default()
        });
        self.node_mut(parent).next.push((byte, index));
        index
    }

    /// Breadth first, so that the node a fail link points to is always finished already.
    fn link(&mut self) {
        let mut level = vec![ROOT];
        while !level.is_empty() {
            let mut below = Vec::new();
            for parent in level {
                for (byte, child) in self.node(parent).next.clone() {
                    let fail = if parent == ROOT {
                        ROOT
                    } else {
                        self.step(self.node(parent).fail, byte)
                    };
                    let inherited = self.node(fail).matched;
                    let node = self.node_mut(child);
                    node.fail = fail;
                    node.matched = node.matched.max(inherited);
                    below.push(child);
                }
            }
            level = below;
        }
    }

    fn starts_with(&self, byte: u8) -> bool {
        self.starts.get(usize::from(byte)).copied().unwrap_or(false)
    }

    fn step(&self, mut at: u32, byte: u8) -> u32 {
        loop {
            if let Some(child) = self.child(at, byte) {
                return child;
            }
            if at == ROOT {
                return ROOT;
            }
            at = self.node(at).fail;
        }
    }

    fn child(&self, at: u32, byte: u8) -> Option<u32> {
        self.node(at)
            .next
            .iter()
            .find(|(edge, _)| *edge == byte)
            .map(|(_, child)| *child)
    }

    fn node(&self, at: u32) -> &Node {
        self.nodes
            .get(at as usize)
            .expect("links point to nodes that exist")
    }

    fn node_mut(&mut self, at: u32) -> &mut Node {
        self.nodes
            .get_mut(at as usize)
            .expect("links point to nodes that exist")
    }
}

/// One stream being masked.
pub struct Masker {
    patterns: Rc<Patterns>,
    state: u32,
    /// Bytes that may still become part of a secret, each with whether it already is.
    held: Vec<(u8, bool)>,
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
            hiding: false,
        }
    }

    /// Takes the next bytes of the stream and appends to `out` what is certain by now.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            if self.state == ROOT {
                let start = input
                    .iter()
                    .position(|&byte| self.patterns.starts_with(byte));
                let (clear, rest) = input.split_at(start.unwrap_or(input.len()));
                self.give(clear, out);
                input = rest;
            }
            let Some((&byte, rest)) = input.split_first() else {
                break;
            };
            input = rest;
            self.advance(byte, out);
        }
    }

    /// Ends the stream: what was held back was no secret after all.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(self.held.len(), out);
        self.state = ROOT;
    }

    /// Whether bytes are held back.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    fn advance(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.held.push((byte, false));
        self.state = self.patterns.step(self.state, byte);
        let node = self.patterns.node(self.state);
        let (depth, matched) = (node.depth as usize, node.matched as usize);
        for (_, hidden) in self.held.iter_mut().rev().take(matched) {
            *hidden = true;
        }
        self.release(self.held.len() - depth, out);
    }

    fn release(&mut self, count: usize, out: &mut Vec<u8>) {
        for (byte, hidden) in self.held.drain(..count) {
            match (hidden, self.hiding) {
                (true, false) => out.extend_from_slice(MASK),
                (true, true) => {}
                (false, _) => out.push(byte),
            }
            self.hiding = hidden;
        }
    }

    fn give(&mut self, clear: &[u8], out: &mut Vec<u8>) {
        if !clear.is_empty() {
            out.extend_from_slice(clear);
            self.hiding = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patterns(values: &[&[u8]]) -> Rc<Patterns> {
        Rc::new(Patterns::new(values.iter().map(|value| ("S", *value))))
    }

    fn run(patterns: &Rc<Patterns>, chunks: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut masker = Masker::new(Rc::clone(patterns));
        for chunk in chunks {
            masker.push(chunk, &mut out);
        }
        masker.finish(&mut out);
        out
    }

    /// The definition, without any cleverness: mark every byte of every occurrence.
    fn expected(values: &[Vec<u8>], text: &[u8]) -> Vec<u8> {
        let mut hidden = vec![false; text.len()];
        for value in values {
            for at in 0..text.len() {
                if text[at..].starts_with(value) {
                    hidden[at..at + value.len()].fill(true);
                }
            }
        }
        let mut out = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            match (hidden[at], at > 0 && hidden[at - 1]) {
                (true, false) => out.extend_from_slice(MASK),
                (true, true) => {}
                (false, _) => out.push(*byte),
            }
        }
        out
    }

    #[test]
    fn every_split_of_a_stream_hides_the_same_bytes() {
        let secrets = patterns(&[b"hunter2-secret", b"secret-tail", b"aaaab"]);
        let text = b"x hunter2-secret-tail aaaaaab hunter2-secre aaaa\nhunter2-secret";
        let whole = run(&secrets, &[text]);
        assert_eq!(whole, b"x *** aa*** hunter2-secre aaaa\n***");
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let chunks = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(run(&secrets, &chunks), whole, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_line_that_cannot_become_a_secret_is_not_held_back() {
        let secrets = patterns(&[b"token-1234"]);
        let (mut out, mut masker) = (Vec::new(), Masker::new(secrets));
        masker.push(b"ready\nto", &mut out);
        assert_eq!(out, b"ready\n");
        assert!(masker.is_holding());
        masker.push(b"morrow\n", &mut out);
        assert_eq!(out, b"ready\ntomorrow\n");
        assert!(!masker.is_holding());
    }

    #[test]
    fn lines_of_a_long_secret_are_hidden_one_by_one() {
        let secrets = patterns(&[b"-----BEGIN-----\n  c2VjcmV0\n-----END-----\n"]);
        assert_eq!(
            run(&secrets, &[b"a c2VjcmV0 b\n-----END-----"]),
            b"a *** b\n***"
        );
        let short_lines = patterns(&[b"ab\ncd\nef"]);
        assert_eq!(run(&short_lines, &[b"ab cd\nab\ncd\nef!"]), b"ab cd\n***!");
    }

    #[test]
    fn short_values_are_named_and_left_alone() {
        let patterns = Patterns::new([("PIN", b"123".as_slice()), ("EMPTY", b""), ("OK", b"1234")]);
        assert_eq!(patterns.too_short(), ["PIN"]);
        assert_eq!(Rc::new(patterns).mask("123 1234"), "123 ***");
    }

    proptest! {
        #[test]
        fn masking_is_the_same_for_any_cut(
            values in prop::collection::vec("[ab]{4,7}", 1..4),
            text in "[abc]{0,60}",
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let values: Vec<Vec<u8>> = values.into_iter().map(String::into_bytes).collect();
            let text = text.into_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(run(&patterns(&slices), &chunks), expected(&values, &text));
        }
    }
}
