//! The engine with a scripted runner.
