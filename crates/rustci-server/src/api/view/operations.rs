//! What the API says of the server itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The durable state, named by digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateView {
    /// The last record of the journal that is in it.
    pub index: u64,
    /// BLAKE3 of the scheduler's state after that record, 64 hex digits.
    pub state_digest: String,
    /// BLAKE3 over the rows of the catalogue at the same index, when it was asked for.
    pub catalogue_digest: Option<String>,
}
