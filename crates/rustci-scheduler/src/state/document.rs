//! Documents: values by kind and key.

use std::collections::BTreeMap;

use crate::record::DocumentSet;

/// What is kept for others.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    kinds: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    len: usize,
}

impl Documents {
    /// Documents of all kinds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, kind: &str, key: &str) -> Option<&[u8]> {
        self.kinds.get(kind)?.get(key).map(Vec::as_slice)
    }

    /// Those of one kind, by key.
    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = (&str, &[u8])> {
        let documents = self.kinds.get(kind).into_iter().flatten();
        documents.map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    pub(super) fn apply(&mut self, record: &DocumentSet) {
        let DocumentSet { kind, key, value } = record;
        match value {
            Some(value) => {
                let of_kind = self.kinds.entry(kind.clone()).or_default();
                let before = of_kind.insert(key.clone(), value.clone());
                self.len += usize::from(before.is_none());
            }
            None => self.remove(kind, key),
        }
    }

    fn remove(&mut self, kind: &str, key: &str) {
        let Some(of_kind) = self.kinds.get_mut(kind) else {
            return;
        };
        self.len -= usize::from(of_kind.remove(key).is_some());
        if of_kind.is_empty() {
            self.kinds.remove(kind);
        }
    }

    pub(super) fn records(&self) -> Vec<DocumentSet> {
        let documents = self.kinds.iter().flat_map(|(kind, documents)| {
            let of_kind = documents.iter();
            of_kind.map(move |(key, value)| DocumentSet {
                kind: kind.clone(),
                key: key.clone(),
                value: Some(value.clone()),
            })
        });
        documents.collect()
    }
}
