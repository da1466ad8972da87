//! An Aho-Corasick automaton in a few flat tables.
//!
//! Nodes are numbered breadth first, so the children of a node are neighbours: one table of edge
//! bytes and one of first children are the whole trie, 17 bytes a node, however many patterns.

use std::collections::BTreeSet;
use std::ops::Range;

/// A node of the automaton: the longest end of the text that is the start of a pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State(u32);

/// The state without any start of a pattern.
pub(super) const ROOT: State = State(0);

/// All patterns at once.
pub(super) struct Trie {
    /// The byte that leads to a node.
    edges: Vec<u8>,
    /// Where a node's children begin; they end where the next node's begin.
    children: Vec<u32>,
    /// The node of the longest proper suffix that is itself the start of a pattern.
    fails: Vec<u32>,
    depths: Vec<u32>,
    /// Length of the longest pattern that ends at a node; 0 when none does.
    matches: Vec<u32>,
    /// The root's children by byte: most steps start there.
    first: Vec<u32>,
}

impl Trie {
    /// Builds the automaton; no pattern is empty.
    pub(super) fn new(patterns: &BTreeSet<Vec<u8>>) -> Self {
        let patterns: Vec<&[u8]> = patterns.iter().map(Vec::as_slice).collect();
        let mut trie = Self {
            edges: vec![0],
            children: vec![1],
            fails: vec![0],
            depths: vec![0],
            matches: vec![0],
            first: vec![0; 256],
        };
        trie.grow(&patterns);
        trie.fill_first();
        trie.link();
        trie
    }

    /// The state after one more byte.
    pub(super) fn step(&self, state: State, byte: u8) -> State {
        let mut at = state.0;
        while at != 0 {
            if let Some(child) = self.child(at, byte) {
                return State(child);
            }
            at = get(&self.fails, at);
        }
        State(self.first.get(usize::from(byte)).copied().unwrap_or(0))
    }

    /// How many bytes at the end of the text are the start of a pattern.
    pub(super) fn depth(&self, state: State) -> usize {
        get(&self.depths, state.0) as usize
    }

    /// Length of the longest pattern that the text ends with; 0 when there is none.
    pub(super) fn matched(&self, state: State) -> usize {
        get(&self.matches, state.0) as usize
    }

    /// One level after the other. `patterns` are sorted, so the patterns below a node are a range.
    fn grow(&mut self, patterns: &[&[u8]]) {
        let mut level = Vec::new();
        self.grow_node(patterns, 0..patterns.len(), 0, &mut level);
        for depth in 1.. {
            if level.is_empty() {
                break;
            }
            let mut below = Vec::new();
            for range in level {
                self.grow_node(patterns, range, depth, &mut below);
            }
            level = below;
        }
    }

    fn grow_node(
        &mut self,
        patterns: &[&[u8]],
        range: Range<usize>,
        depth: usize,
        below: &mut Vec<Range<usize>>,
    ) {
        let byte = |index: usize| patterns.get(index).and_then(|p| p.get(depth)).copied();
        let mut start = range.start;
        while start < range.end {
            let Some(edge) = byte(start) else {
                // This pattern ends at the node itself.
                start += 1;
                continue;
            };
            let mut end = start + 1;
            while end < range.end && byte(end) == Some(edge) {
                end += 1;
            }
            let ends_here = patterns.get(start).is_some_and(|p| p.len() == depth + 1);
            self.push(edge, depth + 1, if ends_here { depth + 1 } else { 0 });
            below.push(start..end);
            start = end;
        }
        self.children.push(index(self.edges.len()));
    }

    fn push(&mut self, edge: u8, depth: usize, matched: usize) {
        self.edges.push(edge);
        self.depths.push(index(depth));
        self.matches.push(index(matched));
        self.fails.push(0);
    }

    fn fill_first(&mut self) {
        for child in self.range(0) {
            let edge = self.edges.get(child).copied().unwrap_or(0);
            if let Some(slot) = self.first.get_mut(usize::from(edge)) {
                *slot = index(child);
            }
        }
    }

    /// In the order of the numbers, so that the node a link points to is always finished already.
    fn link(&mut self) {
        for parent in 0..index(self.edges.len()) {
            for child in self.range(parent) {
                let edge = self.edges.get(child).copied().unwrap_or(0);
                let fail = match parent {
                    0 => ROOT,
                    _ => self.step(State(get(&self.fails, parent)), edge),
                };
                let inherited = get(&self.matches, fail.0);
                set(&mut self.fails, child, fail.0);
                let own = self.matches.get(child).copied().unwrap_or(0);
                set(&mut self.matches, child, own.max(inherited));
            }
        }
    }

    fn child(&self, at: u32, byte: u8) -> Option<u32> {
        let range = self.range(at);
        let start = range.start;
        let edges = self.edges.get(range).unwrap_or_default();
        let place = edges.iter().position(|&edge| edge == byte)?;
        Some(index(start + place))
    }

    fn range(&self, at: u32) -> Range<usize> {
        let start = get(&self.children, at) as usize;
        start..get(&self.children, at + 1) as usize
    }
}

fn index(value: usize) -> u32 {
    u32::try_from(value).expect("the forms of all secrets are far below 4 GiB")
}

fn get(table: &[u32], at: u32) -> u32 {
    *table
        .get(at as usize)
        .expect("links point to nodes that exist")
}

fn set(table: &mut [u32], at: usize, value: u32) {
    *table.get_mut(at).expect("links point to nodes that exist") = value;
}
