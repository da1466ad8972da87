//! Where the bytes that are explained come from: captures, raw bytes, hexadecimal.

pub(crate) mod cutter;
pub(crate) mod flow;
pub(crate) mod hex;
pub(crate) mod packets;
pub(crate) mod pcapng;
