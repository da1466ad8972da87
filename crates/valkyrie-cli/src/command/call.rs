//! `valkyrie call`.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use valkyrie::{
    CallOptions, Correlation, ErrorCode, Event, Handler, Link, Metadata, Retry, SendError,
};

use super::stream::stream;
use crate::args::{BodyArgs, CallArgs};
use crate::exit::Exit;
use crate::explain::Preview;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::peer;
use crate::proto::Schema;
use crate::signals::Signals;
use crate::style::Sink;
use crate::wire::hex;

/// Longest body: what the protocol lets a message be.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Hands the one answer to the command.
struct Answers {
    sender: Option<oneshot::Sender<Answer>>,
}

/// The body of the answer, or why there is none.
type Answer = Result<Bytes, Refusal>;

/// What the server says instead of an answer.
struct Refusal {
    code: ErrorCode,
    retry: Retry,
    text: String,
}

impl Handler for Answers {
    fn event(&mut self, _link: &Link, event: Event<'_>) {
        let answer = match event {
            Event::Reply { body, .. } => Ok(body.into_bytes()),
            Event::CallFailed {
                code, retry, text, ..
            } => Err(Refusal {
                code,
                retry,
                text: text.into_owned(),
            }),
            _ => return,
        };
        if let Some(sender) = self.sender.take() {
            // The command may have been interrupted meanwhile.
            let _ = sender.send(answer);
        }
    }
}

/// Sends one request and shows its answer.
///
/// # Errors
/// Wrong arguments, nobody there, or whatever kept the answer from coming.
pub(crate) async fn call(args: &CallArgs, out: &mut Output) -> Result<Exit, Failure> {
    let schema = match &args.proto {
        Some(file) => Some(Schema::find(file, &args.import, &args.method)?),
        None => None,
    };
    let body = body(&args.body, schema.as_ref())?;
    let mut signals = Signals::listen()?;
    let result = if args.stream {
        tokio::select! {
            result = stream(args, body, out) => Some(result),
            () = signals.next() => None,
        }
    } else {
        tokio::select! {
            result = send(args, &body, schema.as_ref(), out) => Some(result),
            () = signals.next() => None,
        }
    };
    if let Some(result) = result {
        return result;
    }
    // The request was given up with its future; the connection has its turn to tell the server.
    tokio::task::yield_now().await;
    Ok(Exit::Interrupted)
}

async fn send(
    args: &CallArgs,
    body: &[u8],
    schema: Option<&Schema>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let (sender, answer) = oneshot::channel();
    let sender = Some(sender);
    let peer = peer::connect(&args.endpoint, args.timeout, Answers { sender }).await?;
    let link = peer.link;
    let (class, method) = (args.class.into(), &args.method);
    let metadata = metadata(&args.metadata)?;
    let options = CallOptions {
        deadline: (!args.message).then_some(args.deadline),
        metadata: metadata.view(),
        ..CallOptions::default()
    };
    if args.message {
        let sent = link.session().message_with(class, method, body, &options);
        sent.map_err(|error| not_sent(&error))?;
        peer::close(&link).await;
        return Ok(Exit::Success);
    }
    let began = Instant::now();
    let sent = link.session().call_with(class, method, body, &options);
    let call = CancelOnDrop {
        call: sent.map_err(|error| not_sent(&error))?,
        link: link.clone(),
    };
    let answer = answer.await;
    let elapsed = began.elapsed();
    drop(call);
    let Ok(answer) = answer else {
        // The handler is gone, and with it the connection.
        return Err(Failure::Lost {
            endpoint: args.endpoint.to_string(),
            cause: link.closed().await.to_string(),
        });
    };
    peer::close(&link).await;
    match answer {
        Ok(answer) => show(&answer, elapsed, schema, out),
        Err(refusal) => Err(failed(refusal, elapsed, args)),
    }
}

/// Tells the server that nobody waits any more; nothing happens when the call has ended.
struct CancelOnDrop {
    link: Link,
    call: Correlation,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.link.session().cancel(self.call);
    }
}

fn metadata(pairs: &[(String, String)]) -> Result<Metadata, Failure> {
    let mut metadata = Metadata::default();
    for (name, value) in pairs {
        let put = metadata.insert(name, value.as_bytes());
        put.map_err(|error| Failure::Usage {
            message: format!("--metadata {name}: {error}"),
            hint: "names are lower-case letters, digits, and . _ -".to_owned(),
        })?;
    }
    Ok(metadata)
}

fn body(args: &BodyArgs, schema: Option<&Schema>) -> Result<Vec<u8>, Failure> {
    let bytes = match args {
        BodyArgs {
            data: Some(text), ..
        } => text.clone().into_bytes(),
        BodyArgs {
            hex: Some(digits), ..
        } => hex::parse(digits).map_err(|error| Failure::Usage {
            message: format!("--hex: {error}"),
            hint: "write two digits for each byte, such as 48656c6c6f".to_owned(),
        })?,
        BodyArgs {
            file: Some(file), ..
        } => read(file).map_err(Failure::io(format!("read {}", file.display())))?,
        _ => Vec::new(),
    };
    let Some(schema) = schema else {
        return Ok(bytes);
    };
    let text = str::from_utf8(&bytes).map_err(|error| Failure::Input {
        what: "the body".to_owned(),
        cause: format!("with --proto it has to be JSON: {error}"),
        hint: None,
    })?;
    schema.encode(text)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more, so that a longer body is refused for its length and not cut.
    let limit = BODY_BYTES_MAX + 1;
    match file == Path::new("-") {
        true => io::stdin().take(limit).read_to_end(&mut bytes)?,
        false => fs::File::open(file)?.take(limit).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

fn show(
    answer: &[u8],
    elapsed: Duration,
    schema: Option<&Schema>,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let decoded = schema.map(|schema| schema.decode(answer)).transpose()?;
    match (out.format(), decoded) {
        (Format::Json, decoded) => {
            let mut line = json!({ "code": 0, "elapsed_us": elapsed.as_nanos() as f64 / 1e3 });
            if let Value::Object(fields) = &mut line {
                match decoded {
                    Some(message) => {
                        fields.insert("body".to_owned(), message);
                    }
                    None => Preview {
                        bytes_max: answer.len(),
                    }
                    .put(answer, fields),
                }
            }
            out.json(&line)?;
        }
        (Format::Text, Some(message)) => out.text(&format!("{message:#}\n"))?,
        (Format::Text, None) => {
            out.bytes(answer)?;
            // The prompt of a shell belongs on a line of its own; files get the bytes alone.
            if out.sink() == Sink::Terminal && !answer.ends_with(b"\n") {
                out.text("\n")?;
            }
        }
    }
    Ok(Exit::Success)
}

fn failed(refusal: Refusal, elapsed: Duration, args: &CallArgs) -> Failure {
    let Refusal { code, retry, text } = refusal;
    if code == ErrorCode::TIMEOUT && elapsed >= args.deadline {
        return Failure::TimedOut {
            what: args.method.clone(),
            limit: args.deadline,
        };
    }
    let hint = match retry {
        Retry::No => None,
        Retry::After(Duration::ZERO) => Some("the same call may succeed later".to_owned()),
        Retry::After(wait) => Some(format!(
            "the same call may succeed in {}",
            humantime::format_duration(wait)
        )),
    };
    Failure::Refused { code, text, hint }
}

fn not_sent(error: &SendError) -> Failure {
    Failure::Usage {
        message: format!("not sent: {error}"),
        hint: "the server says in its HELLO_ACK what it takes; `valkyrie capture` shows it"
            .to_owned(),
    }
}
