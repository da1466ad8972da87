//! What the runner and its job process say to each other over the process's stdin and stdout, and
//! what the job process leaves in its directory. Private to one version of this program.
//!
//! On a pipe every message is a u32 big-endian length and then Protocol Buffers.

use prost::Message;
use rustci_pipeline::v1;
use valkyrie_frame::v2;

use crate::limits::JOB_MESSAGE_BYTES_MAX;

/// From the runner.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Order {
    /// What to do.
    #[prost(oneof = "OrderKind", tags = "1, 2, 3, 4")]
    pub(crate) kind: Option<OrderKind>,
}

/// The orders there are.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum OrderKind {
    /// The first message: everything about the attempt. It holds secrets, so it never touches a disk.
    #[prost(message, boxed, tag = "1")]
    Begin(Box<Begin>),
    /// Ends the attempt early.
    #[prost(message, tag = "2")]
    Cancel(Cancel),
    /// The answer to [`ReportKind::Upload`].
    #[prost(message, tag = "3")]
    Uploaded(Uploaded),
    /// The answer to [`ReportKind::Need`].
    #[prost(message, tag = "4")]
    Got(Got),
}

/// An attempt to execute.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Begin {
    #[prost(message, optional, tag = "1")]
    pub(crate) attempt: Option<v2::Attempt>,
    #[prost(message, optional, tag = "2")]
    pub(crate) spec: Option<v1::JobSpec>,
    /// Name of the runner.
    #[prost(string, tag = "3")]
    pub(crate) runner: String,
    /// 0 means no limit.
    #[prost(uint64, tag = "4")]
    pub(crate) timeout_ms: u64,
    /// Between the polite signal and the end, when time is up.
    #[prost(uint64, tag = "5")]
    pub(crate) grace_ms: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) log_bytes_max: u64,
    /// Value of the mark in the environment of every process.
    #[prost(string, tag = "7")]
    pub(crate) mark: String,
    /// Environment that comes from the runner's machine.
    #[prost(message, repeated, tag = "8")]
    pub(crate) host_env: Vec<v1::Binding>,
    /// Path of the verified source archive; empty when there is none.
    #[prost(string, tag = "9")]
    pub(crate) archive: String,
}

/// Asks the attempt to end.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Cancel {
    /// Time is up, instead of somebody's wish.
    #[prost(bool, tag = "1")]
    pub(crate) timed_out: bool,
    #[prost(uint64, tag = "2")]
    pub(crate) grace_ms: u64,
}

/// From the job process.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Report {
    /// What happened.
    #[prost(oneof = "ReportKind", tags = "1, 2, 3, 4, 5")]
    pub(crate) kind: Option<ReportKind>,
}

/// The reports there are.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum ReportKind {
    /// The first step is about to run; Unix milliseconds.
    #[prost(uint64, tag = "1")]
    Started(u64),
    /// A step began or ended.
    #[prost(message, tag = "2")]
    Step(v1::StepEvent),
    /// The spool has grown to this length. Left out when the pipe is full: whoever reads the pipe
    /// looks at the spool afterwards.
    #[prost(uint64, tag = "3")]
    Log(u64),
    /// The steps have ended and this is to be uploaded. More may follow.
    #[prost(message, tag = "4")]
    Upload(Upload),
    /// A tree is to be fetched before the steps.
    #[prost(message, tag = "5")]
    Need(Need),
}

/// A cache or an artifact that a job wants.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Need {
    /// Name of the artifact; empty for a cache.
    #[prost(string, tag = "1")]
    pub(crate) artifact: String,
    #[prost(string, tag = "2")]
    pub(crate) key: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) restore_keys: Vec<String>,
    /// The largest tree that is wanted, in bytes.
    #[prost(uint64, tag = "4")]
    pub(crate) bytes_max: u64,
}

/// What became of a [`Need`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Got {
    /// Digest of the tree; empty when there is none.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) tree: Vec<u8>,
    /// The key of the cache entry.
    #[prost(string, tag = "2")]
    pub(crate) key: String,
    /// The directory where the tree's chunks are.
    #[prost(string, tag = "3")]
    pub(crate) chunks: String,
    /// Bytes that came over the network.
    #[prost(uint64, tag = "4")]
    pub(crate) fetched_bytes: u64,
    /// Why the tree could not be fetched; empty when it was.
    #[prost(string, tag = "5")]
    pub(crate) failure: String,
}

/// Bytes that the server has to have before it hears how the job ended.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Upload {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pieces: Vec<Piece>,
    /// Nothing follows: the answer is wanted now.
    #[prost(bool, tag = "2")]
    pub(crate) last: bool,
}

/// A part of a file that is one blob.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Piece {
    /// BLAKE3 of the bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) digest: Vec<u8>,
    /// The file, relative to the attempt's directory.
    #[prost(string, tag = "2")]
    pub(crate) path: String,
    #[prost(uint64, tag = "3")]
    pub(crate) offset: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) length: u32,
}

/// What became of an upload.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Uploaded {
    /// Digests that are not with the server, with the reason.
    #[prost(message, repeated, tag = "1")]
    pub(crate) failed: Vec<NotUploaded>,
    /// Digests that the server did not have before, one behind the other.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) stored: Vec<u8>,
}

/// A blob that the server does not have.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NotUploaded {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) digest: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
    /// It is not the job's fault.
    #[prost(bool, tag = "3")]
    pub(crate) ours: bool,
}

/// The file `result`: how the attempt ended.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ending {
    #[prost(oneof = "EndingKind", tags = "1, 2")]
    pub(crate) kind: Option<EndingKind>,
}

/// The two ways for an attempt to end.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum EndingKind {
    /// It ran to its end, well or badly.
    #[prost(message, boxed, tag = "1")]
    Completed(Box<v1::JobResult>),
    /// It could not be run.
    #[prost(message, tag = "2")]
    Failed(Failed),
}

/// Why an attempt could not be run to its end.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Failed {
    /// A name that retry rules know: `workspace`, `source`, `executor`.
    #[prost(string, tag = "1")]
    pub(crate) cause: String,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// The file `attempt`: whose directory this is. No secrets.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Identity {
    #[prost(message, optional, tag = "1")]
    pub(crate) attempt: Option<v2::Attempt>,
    #[prost(string, tag = "2")]
    pub(crate) mark: String,
}

impl Ending {
    /// An ending after which the attempt may be tried elsewhere.
    pub(crate) fn failed(cause: &str, message: String) -> Self {
        Self {
            kind: Some(EndingKind::Failed(Failed {
                cause: cause.to_owned(),
                message,
            })),
        }
    }
}

/// The other side of a pipe sent something that is no message. Never happens between two parts of
/// the same program; a job that writes to a pipe it should not have could cause it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("message of {length} bytes is over {JOB_MESSAGE_BYTES_MAX}")]
    TooLong { length: u32 },
    #[error("message cannot be read")]
    Malformed(#[from] prost::DecodeError),
}

/// Appends a message in its frame.
pub(crate) fn append(message: &impl Message, out: &mut Vec<u8>) {
    let length = u32::try_from(message.encoded_len()).expect("messages are far below 4 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    message.encode(out).expect("a vector grows");
}

/// Takes the first whole message off the front of `buffer`, at most `max` bytes long.
pub(crate) fn take<M: Message + Default>(
    buffer: &mut Vec<u8>,
    max: u32,
) -> Result<Option<M>, MessageError> {
    let Some((field, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*field);
    if length > max {
        return Err(MessageError::TooLong { length });
    }
    let Some(body) = rest.get(..length as usize) else {
        return Ok(None);
    };
    let message = M::decode(body)?;
    buffer.drain(..4 + length as usize);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_and_in_order() {
        let mut buffer = Vec::new();
        let reports = [ReportKind::Started(7), ReportKind::Log(9)];
        for kind in reports.clone() {
            append(&Report { kind: Some(kind) }, &mut buffer);
        }
        let mut arriving = Vec::new();
        let mut taken = Vec::new();
        for byte in buffer {
            arriving.push(byte);
            while let Some(report) = take::<Report>(&mut arriving, JOB_MESSAGE_BYTES_MAX).unwrap() {
                taken.extend(report.kind);
            }
        }
        assert_eq!(taken, reports);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_kept() {
        let mut buffer = vec![0xFF; 4];
        assert!(take::<Report>(&mut buffer, JOB_MESSAGE_BYTES_MAX).is_err());
    }
}
