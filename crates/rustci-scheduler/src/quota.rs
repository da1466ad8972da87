//! What one project may have.

/// What one project may have at most, and its share of the runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Jobs of it that run at once. 0 means no limit of its own: that of all projects holds.
    pub running: u32,
    /// Jobs of it that have not ended and do not run; a run that would exceed it is refused. 0
    /// means no limit of its own.
    pub queued: u32,
    /// Its share of the runners relative to other projects, at most
    /// [`QUOTA_WEIGHT_MAX`](crate::limits::QUOTA_WEIGHT_MAX). 0 means no weight of its own: that
    /// of all projects holds, and without one it is 1.
    pub weight: u32,
}

impl Quota {
    /// This one, with what it leaves open taken from another.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let own = |own: u32, other: u32| if own == 0 { other } else { own };
        Self {
            running: own(self.running, other.running),
            queued: own(self.queued, other.queued),
            weight: own(self.weight, other.weight),
        }
    }
}
