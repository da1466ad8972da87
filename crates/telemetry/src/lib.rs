//! Metric families, tracing set-up.
