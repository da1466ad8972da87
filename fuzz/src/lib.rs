//! Fuzz targets, and the replay of their stored corpus.
