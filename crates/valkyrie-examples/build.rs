//! Generates the typed service of `examples/typed.rs`.

fn main() -> Result<(), valkyrie_build::Error> {
    valkyrie_build::Builder::default()
        .one_way("demo.greeter.Greeter.Leave")
        .compile(&["proto/greeter.proto"], &["proto"])
}
