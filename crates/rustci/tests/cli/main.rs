//! Drives the built program as a person or a script would.
#[cfg(test)]
mod backup;
#[cfg(test)]
mod canaries;
#[cfg(test)]
mod contexts;
#[cfg(test)]
mod credentials;
mod data;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod facts;
#[cfg(test)]
mod files;
#[cfg(test)]
mod gates;
#[cfg(test)]
mod http;
#[cfg(test)]
mod includes;
#[cfg(test)]
mod left_behind;
#[cfg(test)]
mod local;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod older;
#[cfg(test)]
mod openmetrics;
#[cfg(test)]
mod options;
#[cfg(test)]
mod parallel;
#[cfg(test)]
mod pipelines;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod remote;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod same;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod store;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod world;
