//! Messages of package `rustci.v1`: what travels inside Valkyrie's job messages, and the calls of a
//! runner to its control plane. Generated from `spec/proto/rustci/v1`.

#![expect(
    missing_docs,
    reason = "generated; the comments of the .proto files become the docs"
)]
#![allow(
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated code is not ours to shape"
)]

include!(concat!(env!("OUT_DIR"), "/rustci.v1.rs"));
