//! Drives the built program as a person or a script would.
#[cfg(test)]
mod captures;
#[cfg(test)]
mod decode;
#[cfg(test)]
mod dissector;
#[cfg(test)]
mod talk;
#[cfg(test)]
mod world;
