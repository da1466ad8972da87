//! What a chain says of itself: events, notifications, spans and metrics.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message;
use telemetry::otlp::{OpenTelemetryConfig, TelemetryRuntimeApi};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use valkyrie_store::{
    BreakerConfig, Flavor, HybridConfig, HybridStore, MemoryStore, Parent, RedisConfig, RedisStore,
    StoreAdapter, StoreConfig, StoreEvent,
};

use crate::server::{Server, free_port};

#[derive(Clone, PartialEq, Message)]
struct Traces {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, tag = "1")]
    text: String,
}

impl Span {
    fn attributes(&self) -> HashMap<&str, &str> {
        let pairs = self.attributes.iter();
        pairs
            .map(|pair| {
                (
                    pair.key.as_str(),
                    pair.value.as_ref().unwrap().text.as_str(),
                )
            })
            .collect()
    }
}

/// A request: its path and its body.
type Request = (String, Vec<u8>);

/// A server that takes everything.
async fn receiver() -> (String, mpsc::UnboundedReceiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = sender.send(take(stream).await);
        }
    });
    (url, requests)
}

async fn take(stream: TcpStream) -> Request {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let at = head.len();
        stream.read_line(&mut head).await.unwrap();
        let line = head[at..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body)
}

/// The next spans that arrive.
async fn spans(requests: &mut mpsc::UnboundedReceiver<Request>) -> Vec<Span> {
    loop {
        let (path, body) = requests.recv().await.unwrap();
        if path == "/v1/traces" {
            let traces = Traces::decode(body.as_slice()).unwrap();
            let scopes = traces.resources.into_iter().flat_map(|found| found.scopes);
            return scopes.flat_map(|found| found.spans).collect();
        }
    }
}

/// A chain of a store at this port, which may be nobody's, and memory.
fn chain(port: u16) -> HybridStore {
    let redis = RedisStore::new(&RedisConfig {
        url: format!("redis://127.0.0.1:{port}"),
        ..RedisConfig::default()
    });
    let config = HybridConfig {
        breaker: BreakerConfig {
            failures: 2,
            open_for: Duration::from_millis(1),
            successes: 2,
        },
        ..HybridConfig::default()
    };
    HybridStore::of([redis.unwrap().into(), MemoryStore::new().into()], config).unwrap()
}

#[tokio::test]
async fn chain_says_when_it_falls_back_and_when_a_store_is_left_alone_and_trusted_again() {
    let port = free_port();
    let store = chain(port);
    let mut events = store.events();
    for _ in 0..3 {
        store.set("k", "v", None).await.unwrap();
    }
    let fell_back = StoreEvent::FellBack {
        from: "redis".to_owned(),
        to: "memory".to_owned(),
    };
    assert_eq!(events.try_recv().unwrap(), fell_back);
    let opened = events.try_recv().unwrap();
    assert!(
        matches!(&opened, StoreEvent::BreakerOpened { store, .. } if store == "redis"),
        "{opened:?}"
    );
    assert!(events.try_recv().is_err(), "said twice");
    let server = Server::start_at(Flavor::Redis, port, &[]);
    let closed = StoreEvent::BreakerClosed {
        store: "redis".to_owned(),
    };
    loop {
        store.set("k", "v", None).await.unwrap();
        if let Ok(event) = events.try_recv() {
            assert_eq!(event, closed);
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(server);
    loop {
        // The connection may be found broken by an operation that then is in doubt.
        let _ = store.set("k", "v", None).await;
        match events.try_recv() {
            Ok(event) if event == fell_back => break,
            _ => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn each_operation_has_a_span_while_somebody_wants_them() {
    let (endpoint, mut requests) = receiver().await;
    let api = TelemetryRuntimeApi::new();
    let store = chain(free_port());
    store.record(api.spans());
    store.set("k", "v", None).await.unwrap();
    api.enable_opentelemetry(OpenTelemetryConfig {
        enabled: true,
        endpoint,
        ..OpenTelemetryConfig::default()
    })
    .await
    .unwrap();
    let parent = Parent {
        trace_id: [7; 16],
        span_id: [8; 8],
    };
    let value = parent.during(store.get("k")).await.unwrap();
    assert_eq!(value.as_deref(), Some(&b"v"[..]));
    let read = spans(&mut requests).await;
    assert_eq!(read.len(), 1, "{read:?}");
    let read = &read[0];
    assert_eq!(read.name, "store read");
    assert_eq!(
        (read.trace.as_slice(), read.parent.as_slice()),
        (&[7; 16][..], &[8; 8][..])
    );
    let expected = [
        ("db.operation", "read"),
        ("db.system", "memory"),
        ("outcome", "fell_back"),
    ];
    let attributes = read.attributes();
    for (key, value) in expected {
        assert_eq!(attributes[key], value);
    }
    // A lease is never given by another store.
    assert!(
        store
            .lease(b"l", b"me", Duration::from_secs(1))
            .await
            .is_err()
    );
    let lease = spans(&mut requests).await;
    let attributes = lease[0].attributes();
    assert_eq!(attributes["outcome"], "error");
    assert_eq!(attributes["error.type"], "unavailable");
    assert!(lease[0].parent.is_empty() && lease[0].trace.iter().any(|byte| *byte != 0));
    drop(store.get("k"));
    api.disable_opentelemetry().await;
    store.get("k").await.unwrap();
}

#[tokio::test]
async fn file_alone_starts_notifications_and_telemetry() {
    let (hook, mut notified) = receiver().await;
    let (collector, mut exported) = receiver().await;
    let port = free_port();
    let text = format!(
        "store:
  mode: redis
  fallback_chain: [redis, memory]
  redis: {{ url: 'redis://127.0.0.1:{port}' }}
telemetry:
  opentelemetry: {{ enabled: true, endpoint: '{collector}', service_name: s, interval_seconds: 1 }}
notifications:
  adapters:
    - {{ type: webhook, enabled: true, url: '{hook}/x' }}
"
    );
    let config = StoreConfig::from_text(&text).unwrap();
    let store = HybridStore::new(config).await.unwrap();
    store.set("k", "v", None).await.unwrap();
    let (path, body) = notified.recv().await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(path, "/x");
    assert_eq!(
        body["title"],
        "Store redis does not answer, memory is asked"
    );
    assert_eq!(body["tags"], serde_json::json!(["storage", "fell_back"]));
    let name = b"rustci_store_fallbacks";
    loop {
        let (path, body) = exported.recv().await.unwrap();
        if path == "/v1/metrics" && body.windows(name.len()).any(|found| found == name) {
            break;
        }
    }
    store.telemetry().disable_opentelemetry().await;
    assert!(!store.telemetry().is_enabled());
    let broken = text.replace(&collector, "nowhere");
    let config = StoreConfig::from_text(&broken).unwrap();
    let error = HybridStore::new(config).await.unwrap_err();
    assert!(error.to_string().contains("\"nowhere\""), "{error}");
}
