//! The protocol of Redis (RESP), versions 2 and 3, without a socket.
//!
//! A server reads commands with a [`Parser`], which finds the [`Args`] where they lie in the bytes
//! that arrived, and answers with a [`Writer`], which knows what version 2 makes of what only
//! version 3 has. A client makes commands with [`command`] and reads answers with [`Reply::parse`].
//!
//! ```
//! use resp::{Limits, Parser, Version, Writer};
//!
//! let input = b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\nPING\r\n";
//! let mut parser = Parser::new();
//! let used = parser.parse(input, &Limits::default())?.expect("whole command");
//! let args = parser.args(input);
//! assert_eq!(args.iter().collect::<Vec<_>>(), [b"ECHO".as_slice(), b"hello"]);
//! assert_eq!(&input[used..], b"PING\r\n");
//!
//! let mut out = Vec::new();
//! Writer::new(&mut out, Version::Resp2).bulk(b"hello");
//! assert_eq!(out, b"$5\r\nhello\r\n");
//! # Ok::<(), resp::ProtocolError>(())
//! ```

mod inline;
mod number;
mod parser;
mod reply;
mod writer;

pub use number::parse_integer;
pub use parser::{Args, Limits, Parser, ProtocolError};
pub use reply::{Reply, ReplyError, command};
pub use writer::{Version, Writer};
