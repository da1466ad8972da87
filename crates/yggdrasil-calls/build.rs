//! Generates messages, trait and client of the service.

fn main() -> Result<(), valkyrie_build::Error> {
    valkyrie_build::compile(&["proto/yggdrasil.proto"], &["proto"])
}
