//! The scheduler as a deterministic state machine: queue, leases with fencing, placement, retries.
