//! Traces as a collector gets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use prost::Message;

use super::world::World;

const PIPELINE: &str = "
name: traced
jobs:
  first:
    outputs: { trace: '${{ steps.show.outputs.trace }}' }
    steps:
      - id: show
        run: echo \"trace=$TRACEPARENT\" >> \"$CI_OUTPUT\"
  second:
    needs: [first]
    steps:
      - run: echo one
      - name: breaks
        run: exit 7
";

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Attribute>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(int64, tag = "3")]
    number: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

impl Span {
    fn text(&self, key: &str) -> &str {
        let found = self.attributes.iter().find(|found| found.key == key);
        found
            .and_then(|found| found.value.as_ref())
            .map_or("", |value| &value.text)
    }
}

/// A collector that answers with each of `statuses` in turn, and hands out what it was sent.
fn collector(statuses: &'static [u16]) -> (String, Receiver<Vec<Span>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for status in statuses {
            let (mut stream, _) = listener.accept().unwrap();
            let body = request_body(&mut stream);
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            if *status == 200 {
                let request = Request::decode(body.as_slice()).unwrap();
                let scopes = request.resources.into_iter().flat_map(|r| r.scopes);
                sender.send(scopes.flat_map(|s| s.spans).collect()).unwrap();
            }
        }
    });
    (url, receiver)
}

fn request_body(stream: &mut TcpStream) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        let line = line.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    body
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_run_is_one_trace_with_a_span_for_each_job_and_step() {
    let world = World::with_pipeline(PIPELINE);
    let (url, spans) = collector(&[503, 200]);
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut run = world.command(&["run", "--json"]);
    run.env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .env("TRACEPARENT", parent);
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let spans = spans.recv_timeout(Duration::from_secs(20)).unwrap();
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();

    assert!(
        spans
            .iter()
            .all(|span| hex(&span.trace) == "4bf92f3577b34da6a3ce929d0e0e4736")
    );
    assert_eq!(spans.len(), 6, "{spans:?}");
    let root = named("RUN traced");
    assert_eq!(hex(&root.parent), "00f067aa0ba902b7");
    assert_eq!(root.text("cicd.pipeline.result"), "failure");
    assert_eq!(root.status.as_ref().unwrap().code, 2);
    for job in ["first", "second"] {
        assert_eq!(named(job).parent, root.id);
        assert_eq!(named(job).text("cicd.worker.name"), "local");
    }
    let broken = named("breaks");
    assert_eq!(broken.parent, named("second").id);
    assert_eq!(broken.text("cicd.pipeline.task.run.result"), "failure");
    assert!(broken.attributes.iter().any(|found| {
        found.key == "process.exit.code" && found.value.as_ref().unwrap().number == 7
    }));
    for span in &spans {
        assert!(span.start > 0 && span.start <= span.end, "{span:?}");
    }

    // What the step saw is the span that the collector has for it.
    let step = spans.iter().find(|span| span.parent == named("first").id);
    let expected = format!("00-{}-{}-01", hex(&root.trace), hex(&step.unwrap().id));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&expected), "no {expected} in {said}");
}

#[test]
fn an_absent_collector_changes_nothing_but_a_log_line() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: 'true' }] } }");
    let mut run = world.command(&["run"]);
    // Port 9 is discard: nobody listens there.
    run.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9");
    assert_eq!(run.output().unwrap().status.code(), Some(0));
}

#[test]
fn a_collector_that_cannot_be_named_is_a_usage_error() {
    let world = World::with_pipeline("jobs: { a: { steps: [{ run: 'true' }] } }");
    let mut run = world.command(&["run"]);
    run.env("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://x");
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("OTEL_EXPORTER_OTLP_ENDPOINT is \"ftp://x\""),
        "{said}"
    );
}
