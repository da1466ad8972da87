//! Services and clients: requests, answers, streams of messages, and who handles them.

mod bell;
mod body;
mod client;
mod codec;
mod engine;
mod give_up;
mod inbox;
mod method;
mod pump;
mod request;
mod router;
mod server;
mod status;
mod streaming;
mod tasks;
mod traced;
mod work;

pub use body::Body;
pub use client::{Asked, Calling, Channel, Client, ClientBuilder, LocalClient, Stub};
pub use codec::{Codec, Decode, Encode, Json, Prost, Raw};
pub use request::{MethodName, Parts, Request, Response};
pub use router::{Router, Service};
pub use server::{Server, ServerBuilder};
pub use status::Status;
pub use streaming::{Closed, Iter, Receiver, Sender, Streaming, channel, iter};
pub use traced::{Traced, TracedAnswer, TracedService};
