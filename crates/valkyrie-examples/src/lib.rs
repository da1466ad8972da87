//! Programs that show how Valkyrie is used. Each runs by itself and ends:
//! `cargo run -p valkyrie-examples --example typed`.
//!
//! | example | shows |
//! |---|---|
//! | `ways` | unary calls, the three kinds of streams, one-way messages |
//! | `typed` | a service from a `.proto` file |
//! | `json` | messages that serde writes and reads |
//! | `middleware` | `tower` around a server and around a client |
//! | `deadlines` | deadlines and cancellation that reach the other side |
//! | `chat` | a room: bidirectional streams, messages to many |
//! | `files` | a file that goes on where it was left |
//! | `shutdown` | an end that lets everything finish |

/// The service of `proto/greeter.proto`.
pub mod greeter {
    include!(concat!(env!("OUT_DIR"), "/demo.greeter.rs"));
}
