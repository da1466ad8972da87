//! Documents: what the scheduler keeps for others without looking into it.

use super::Turn;
use crate::{
    Refused, Reply,
    limits::{DOCUMENT_BYTES_MAX, DOCUMENT_NAME_BYTES_MAX, DOCUMENTS_MAX},
    record::{DocumentSet, record::Kind},
};

impl Turn<'_> {
    /// Setting a document to the value it has leaves no record.
    pub(super) fn set_document(
        &mut self,
        kind: String,
        key: String,
        value: Option<Vec<u8>>,
    ) -> Result<Reply, Refused> {
        fits("kind", kind.len(), DOCUMENT_NAME_BYTES_MAX)?;
        fits("key", key.len(), DOCUMENT_NAME_BYTES_MAX)?;
        let bytes = value.as_ref().map_or(0, Vec::len);
        fits("value", bytes, DOCUMENT_BYTES_MAX)?;
        let documents = &self.scheduler.state.documents;
        let before = documents.get(&kind, &key);
        if before == value.as_deref() {
            return Ok(Reply::Done);
        }
        if before.is_none() && documents.len() >= DOCUMENTS_MAX {
            let max = DOCUMENTS_MAX;
            return Err(Refused::TooManyDocuments { max });
        }
        self.record(Kind::DocumentSet(DocumentSet { kind, key, value }));
        Ok(Reply::Done)
    }
}

fn fits(what: &'static str, bytes: usize, max: usize) -> Result<(), Refused> {
    if bytes > max {
        return Err(Refused::DocumentTooLong { what, bytes, max });
    }
    Ok(())
}
