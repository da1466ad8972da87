//! The small HTTP server for operators.

#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use telemetry::{Metrics, openmetrics, probes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The answer to one request on a connection of its own.
async fn ask(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn metrics_and_probes_answer_and_nothing_else_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ready = Arc::new(AtomicBool::new(true));
    let known = Arc::clone(&ready);
    let serving = probes::serve(listener, Metrics::new(), move || {
        known.load(Ordering::Relaxed)
    });
    tokio::spawn(serving);
    let metrics = ask(address, "GET /metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(
        metrics.contains("application/openmetrics-text"),
        "{metrics}"
    );
    let (_, text) = metrics.split_once("\r\n\r\n").unwrap();
    let families = openmetrics::parse(text).unwrap();
    let names: Vec<_> = families.iter().map(|family| family.name.as_str()).collect();
    assert!(
        names.contains(&"valkyrie_insecure_connections_active"),
        "{names:?}"
    );
    assert!(
        ask(address, "GET /readyz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    ready.store(false, Ordering::Relaxed);
    for (request, status) in [
        ("GET /readyz", "503"),
        ("GET /livez", "200"),
        ("HEAD /livez", "200"),
        ("POST /metrics", "405"),
        ("GET /", "404"),
        ("GET /metrics/../etc", "404"),
        ("nonsense", "400"),
    ] {
        let answer = ask(address, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_or_too_much_keeps_nobody_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(probes::serve(listener, Metrics::new(), || true));
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut long = TcpStream::connect(address).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nx: {}\r\n", "y".repeat(100_000));
    // It may be closed before all of it is written.
    let _ = long.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = long.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    assert!(ask(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
}
