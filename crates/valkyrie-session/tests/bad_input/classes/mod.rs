//! The cases, a module for each class of abuse.

use crate::case::Case;

macro_rules! classes {
    ($($name:ident)*) => {
        $(mod $name;)*

        /// Every class with its cases.
        pub const CLASSES: &[(&str, fn() -> Vec<Case>)] =
            &[$((stringify!($name), $name::cases)),*];

        $(#[test]
        fn $name() {
            crate::check(stringify!($name));
        })*
    };
}

classes! {
    headers lengths bodies extensions flags handshake hello resets empty windows ids places ends fragments
    unknown pings calls logs files acks closing errors slow metadata structured proposals told moving envelopes
}
