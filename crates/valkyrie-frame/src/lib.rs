//! The 24-byte Valkyrie frame: header, message types, error codes, payload schemas, ids.
