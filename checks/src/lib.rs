//! The repository's own rules: dependency directions, version floors, commands in the documents.
//!
//! There is no code here, only tests; each file in `tests/` holds one rule.
