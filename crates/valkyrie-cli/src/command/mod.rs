//! What each command does.

pub(crate) mod bench;
pub(crate) mod call;
pub(crate) mod capture;
pub(crate) mod decode;
pub(crate) mod health;
pub(crate) mod ping;
pub(crate) mod serve;
pub(crate) mod stream;
pub(crate) mod top;
