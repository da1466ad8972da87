//! The journal from outside.

#[cfg(test)]
mod faults;
#[cfg(test)]
mod recovery;
