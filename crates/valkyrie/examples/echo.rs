//! A service and its caller over a Unix socket: `cargo run -p valkyrie --example echo`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::{Duration, Instant};

use valkyrie::{
    Endpoint, ErrorCode, Event, Handler, Link, LinkConfig, StreamClass, connect, listen, serve,
};

/// Answers every call with what it was asked.
struct Echo;

impl Handler for Echo {
    fn event(&mut self, link: &Link, event: Event<'_>) {
        if let Event::Call { call, body, .. } = event
            && let Err(error) = link.session().reply(call, &body)
        {
            println!("not answered: {error}");
        }
    }
}

/// A caller that wants nothing but its answers.
struct Quiet;

impl Handler for Quiet {
    fn event(&mut self, _link: &Link, _event: Event<'_>) {}
}

async fn run(endpoint: Endpoint) -> Result<(), Box<dyn Error>> {
    let listener = listen(&endpoint).await?;
    tokio::task::spawn_local(serve(listener, LinkConfig::default(), |_| Echo));
    let link = connect(&endpoint, LinkConfig::default(), Quiet).await?;

    let (class, wait) = (StreamClass::System, Duration::from_secs(1));
    let answer = link.call(class, "demo.Echo/Say", b"hello", wait).await?;
    println!(
        "{} answered {:?}",
        link.peer().address,
        String::from_utf8_lossy(&answer)
    );

    let began = Instant::now();
    for _ in 0..10_000 {
        link.call(class, "demo.Echo/Say", &[0; 64], wait).await?;
    }
    println!(
        "10,000 calls one after the other: {:?} each",
        began.elapsed() / 10_000
    );

    link.close(ErrorCode::NONE, wait);
    println!("{}", link.closed().await);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("valkyrie-echo-{}.sock", std::process::id()));
    valkyrie::block_on(run(Endpoint::Unix { path }))?
}
