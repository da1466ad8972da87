//! Shapes that every dialect checks the same way: mappings with known keys, texts, numbers,
//! durations, names.

pub(crate) mod fields;
mod keys;
pub(crate) mod values;

use std::rc::Rc;

pub(crate) use keys::{Keys, adds, stops};

use crate::yaml::Node;

/// A name and a template.
#[derive(Clone)]
pub(crate) struct Binding {
    pub(crate) name: String,
    pub(crate) value: Rc<Node>,
}
