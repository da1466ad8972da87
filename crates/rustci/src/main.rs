//! The `rustci` program: arguments, wiring, exit codes.
fn main() {}
