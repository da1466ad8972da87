//! The scheduler from outside.

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod matrices;
#[cfg(test)]
mod placement;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reruns;
#[cfg(test)]
mod runners;
#[cfg(test)]
mod slots;
#[cfg(test)]
mod world;
