//! The Valkyrie engine: shards, connections, calls, handlers.
