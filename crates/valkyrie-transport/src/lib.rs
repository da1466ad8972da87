//! Byte transports for Valkyrie behind one trait: mem, Unix socket, TCP.
