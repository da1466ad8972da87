//! Errors that some operations document beyond those that `document` adds to all.
//!
//! In `#[utoipa::path(responses(.., NotFound, Conflict))]` each stands for its status with a
//! problem as the body; the codes behind a status are in the table of `docs/api.md`. An operation that
//! gives another status (412, 429, ..) adds a line below.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{RefOr, Response};

use crate::api::document::problem;

macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident = $status:literal $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                BTreeMap::from([($status.to_owned(), problem($what).into())])
            }
        }
    )*};
}

answers! {
    /// What the path names is not there.
    NotFound = "404" "What the path names is not there.";
    /// The state of what the path names does not allow it.
    Conflict = "409" "The state of things does not allow it, or the server only reads.";
    /// Somebody changed the thing since the caller looked at it.
    Precondition = "412" "It is not in the state that `If-Match` or `If-None-Match` asks for.";
    /// The request is well formed and still cannot be done.
    Unprocessable = "422" "The request is well formed and cannot be done as it is; `code` says why.";
    /// A quota is used up.
    TooMany = "429" "The project has as many waiting jobs as it may have.";
    /// The server takes nothing new.
    Unavailable = "503" "The server is stopping, or its storage failed.";
}
