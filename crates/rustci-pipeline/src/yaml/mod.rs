//! YAML 1.2 with the core schema, as a tree whose nodes know where they stand.

mod load;
mod node;
mod scalar;
mod source;

pub(crate) use load::{load, load_from};
pub(crate) use node::{Entry, Node, NodeKind};
pub(crate) use scalar::{Core, Scalar};
pub(crate) use source::Source;
