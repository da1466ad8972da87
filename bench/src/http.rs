//! The least HTTP client there is: one request per connection, version 1.0, so that the body ends
//! with the connection and is never chunked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustci_server::Server;
use rustci_server::api::view::{RunCreated, RunView};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server's API.
#[derive(Clone)]
pub(crate) struct Api {
    address: SocketAddr,
    token: String,
}

impl Api {
    pub(crate) fn of(server: &Server) -> Result<Self> {
        let address = server.http_address().context("the server has no HTTP")?;
        let token = server.token().expose().to_owned();
        Ok(Self { address, token })
    }

    /// Starts a run of a pipeline.
    pub(crate) fn submit(&self, text: &str) -> Result<RunView> {
        let file = json!({ "file": "bench.yaml", "text": text });
        let new = json!({ "pipeline": file, "project": "bench" }).to_string();
        let mut answer = self.send("POST", "/api/v1/runs", "application/json", &new)?;
        let mut body = Vec::new();
        answer.read_to_end(&mut body)?;
        let created: RunCreated = serde_json::from_slice(&body)?;
        Ok(created.run)
    }

    /// Opens `path` for reading; `accept` chooses the format.
    pub(crate) fn get(&self, path: &str, accept: &str) -> Result<impl BufRead + use<>> {
        self.send("GET", path, accept, "")
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        accept: &str,
        body: &str,
    ) -> Result<impl BufRead + use<>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!(
            "{method} {path} HTTP/1.0\r\nauthorization: Bearer {}\r\naccept: {accept}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let status = line(&mut reader)?;
        while !line(&mut reader)?.is_empty() {}
        ensure!(
            status
                .split(' ')
                .nth(1)
                .is_some_and(|code| code.starts_with('2')),
            "{path}: {status}"
        );
        Ok(reader)
    }
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    ensure!(reader.read_line(&mut line)? > 0, "the server hung up");
    Ok(line.trim_end().to_owned())
}
