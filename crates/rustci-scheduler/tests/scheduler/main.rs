//! The scheduler from outside.

#[cfg(test)]
mod documents;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod placement;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod runners;
#[cfg(test)]
mod world;
