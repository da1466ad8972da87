//! Seeded simulation of scheduler, session and journal.
