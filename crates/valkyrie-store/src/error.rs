//! What went wrong, and what may have happened all the same.

/// Whether an operation that failed may have changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Applied {
    /// Certainly not: the store was not reached. It can be done again, here or elsewhere.
    No,
    /// It may have: the request was sent and no answer came.
    Unknown,
}

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached, or did not answer in time.
    #[error("{store}: {cause}{}", unclear(*applied))]
    Unavailable {
        /// Which store.
        store: String,
        /// What it did.
        cause: String,
        /// What may have happened.
        applied: Applied,
    },
    /// The store refused the operation, and would again.
    #[error("{store}: {cause}")]
    Rejected {
        /// Which store.
        store: String,
        /// Its words.
        cause: String,
    },
    /// The key holds something else.
    #[error("{store}: the key holds another kind of value")]
    WrongType {
        /// Which store.
        store: String,
    },
    /// The store does not do that.
    #[error("{store} has no {what}")]
    Unsupported {
        /// Which store.
        store: String,
        /// What it lacks.
        what: &'static str,
    },
    /// The settings of a store are none.
    #[error("{0}")]
    Config(String),
}

const fn unclear(applied: Applied) -> &'static str {
    match applied {
        Applied::No => "",
        Applied::Unknown => " (it may have been done)",
    }
}

impl StoreError {
    /// What may have happened; `None` where the store answered and did nothing.
    #[must_use]
    pub const fn applied(&self) -> Option<Applied> {
        match self {
            Self::Unavailable { applied, .. } => Some(*applied),
            _ => None,
        }
    }

    /// The same of an operation of which nothing was done yet.
    pub(crate) fn but_not_applied(self) -> Self {
        match self {
            Self::Unavailable { store, cause, .. } => Self::Unavailable {
                store,
                cause,
                applied: Applied::No,
            },
            other => other,
        }
    }

    /// Whether the store was not reached, so that another may be asked.
    #[must_use]
    pub fn is_not_applied(&self) -> bool {
        self.applied() == Some(Applied::No)
    }
}
