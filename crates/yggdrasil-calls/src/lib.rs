//! What Yggdrasil does, as calls of Valkyrie: the service `yggdrasil.v1.Keys` of
//! `proto/yggdrasil.proto`.
//!
//! A server implements [`v1::Keys`], a program calls through [`v1::KeysClient`]. What a failed call has
//! done is in the code of its status:
//!
//! | code | what happened |
//! |---|---|
//! | [`WRONG_TYPE`] | nothing: the key holds another kind of value |
//! | [`REJECTED`] | nothing, and it would be the same again |
//! | [`NOT_NOW`] | nothing; another time or another server may do it |
//! | [`UNSURE`] | it was done, and the disk refused it: it may be lost |
//! | [`DENIED`](ErrorCode::DENIED) | nothing: the password has to be said first, or was wrong |
//!
//! Other codes are those of the connection.

use valkyrie::ErrorCode;

/// Messages, trait and client.
#[expect(clippy::too_many_lines, reason = "code that is generated")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/yggdrasil.v1.rs"));
}

/// The key holds another kind of value.
pub const WRONG_TYPE: ErrorCode = ErrorCode(450);
/// The operation is refused, and would be again.
pub const REJECTED: ErrorCode = ErrorCode(451);
/// Nothing is changed now.
pub const NOT_NOW: ErrorCode = ErrorCode(452);
/// The operation was done and cannot be kept.
pub const UNSURE: ErrorCode = ErrorCode(453);
