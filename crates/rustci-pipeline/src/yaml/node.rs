//! The tree.

use std::ops::Range;
use std::rc::Rc;

use super::scalar::{Core, Scalar};

/// A value. Aliases share it, so its place is that of the anchor.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    /// Where it stands in the file.
    pub(crate) at: Range<usize>,
    /// Whether it is another value than the one at its place: inputs were put into it.
    pub(crate) filled: bool,
    pub(super) weight: Weight,
}

/// What a value would cost to copy; kept so that an alias is counted without a walk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) nodes: usize,
    pub(super) text: usize,
    pub(super) height: usize,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Scalar(Scalar),
    Sequence(Vec<Rc<Node>>),
    Mapping(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Rc<Node>,
    pub(crate) value: Rc<Node>,
}

impl Default for Node {
    /// Nothing, nowhere.
    fn default() -> Self {
        Self::made(Scalar::plain(String::new()), 0..0)
    }
}

impl Node {
    /// A text that stands for what the file says in another way at `at`.
    pub(crate) fn text_at(text: impl Into<String>, at: Range<usize>) -> Rc<Self> {
        Rc::new(Self::made(Scalar::text(text.into()), at))
    }

    /// The boolean that stands for what the file says in another way at `at`.
    pub(crate) fn true_at(at: Range<usize>) -> Rc<Self> {
        Rc::new(Self::made(Scalar::plain("true".to_owned()), at))
    }

    fn made(scalar: Scalar, at: Range<usize>) -> Self {
        Self {
            kind: NodeKind::Scalar(scalar),
            at,
            filled: false,
            weight: Weight::default(),
        }
    }

    /// A value that stands in place of one at `at`; nothing names it by an alias.
    pub(crate) fn instead(kind: NodeKind, at: Range<usize>) -> Rc<Self> {
        Rc::new(Self {
            kind,
            at,
            filled: true,
            weight: Weight::default(),
        })
    }

    /// The scalar, when it is one.
    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.kind {
            NodeKind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar, whatever its type; none for null and for lists and mappings.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar()
            .filter(|scalar| scalar.core != Core::Null)
            .map(|scalar| scalar.text.as_str())
    }

    pub(crate) fn is_null(&self) -> bool {
        self.scalar()
            .is_some_and(|scalar| scalar.core == Core::Null)
    }

    /// The value under a key of a mapping.
    pub(crate) fn get(&self, name: &str) -> Option<&Rc<Self>> {
        let NodeKind::Mapping(entries) = &self.kind else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key.text() == Some(name));
        entry.map(|entry| &entry.value)
    }

    /// What it is, with its article: `a list`.
    pub(crate) fn kind_name(&self) -> &'static str {
        match &self.kind {
            NodeKind::Sequence(_) => "a list",
            NodeKind::Mapping(_) => "a mapping",
            NodeKind::Scalar(scalar) => match scalar.core {
                Core::Null => "empty",
                Core::Bool(_) => "a boolean",
                Core::Integer(_) | Core::Float(_) => "a number",
                Core::Text => "text",
            },
        }
    }

    /// The value as JSON: numbers and booleans as such, keys as text.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            NodeKind::Scalar(scalar) => scalar.to_json(),
            NodeKind::Sequence(items) => items.iter().map(|item| item.to_json()).collect(),
            NodeKind::Mapping(entries) => entries
                .iter()
                .map(|entry| {
                    (
                        entry.key.text().unwrap_or_default().to_owned(),
                        entry.value.to_json(),
                    )
                })
                .collect(),
        }
    }
}

impl Weight {
    /// The weight of a value that holds others.
    pub(super) fn around(inner: impl Iterator<Item = Self>) -> Self {
        let sum = inner.fold(Self::default(), |sum, weight| Self {
            nodes: sum.nodes.saturating_add(weight.nodes),
            text: sum.text.saturating_add(weight.text),
            height: sum.height.max(weight.height),
        });
        Self {
            nodes: sum.nodes.saturating_add(1),
            height: sum.height + 1,
            ..sum
        }
    }
}
