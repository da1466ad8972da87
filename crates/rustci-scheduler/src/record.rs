//! Records of the journal, generated from `spec/proto/rustci/v1/journal.proto`.

#![expect(
    missing_docs,
    reason = "generated; the comments of the .proto file become the docs"
)]
#![allow(
    clippy::allow_attributes_without_reason,
    clippy::large_enum_variant,
    clippy::module_inception,
    unused_qualifications,
    reason = "generated code is not ours to shape"
)]

include!(concat!(env!("OUT_DIR"), "/rustci.journal.v1.rs"));
