//! Deadlines and cancellation that reach the other side.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use tokio::sync::mpsc;
use valkyrie::{
    Bytes, Endpoint, LocalClient, Raw, Request, Response, Router, Server, Service, Status,
};

/// Says when a handler is dropped.
struct Dropped(mpsc::UnboundedSender<&'static str>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send("the handler was dropped");
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let (dropped, mut news) = mpsc::unbounded_channel();
    let service = Service::new("demo.Sloth", Raw).unary("Think", move |request: Request<Bytes>| {
        let dropped = Dropped(dropped.clone());
        async move {
            println!("the caller waits for {:?}", request.time_left());
            std::future::pending::<()>().await;
            drop(dropped);
            Ok::<_, Status>(Response::new(Bytes::new()))
        }
    });
    let endpoint: Endpoint = "valkyrie+mem://deadlines".parse()?;
    let server = Server::builder()
        .listen(&endpoint, Router::new().with(service))
        .await?;
    let client = LocalClient::connect(&endpoint).await?;

    let request = Request::new(Bytes::new()).with_timeout(Duration::from_millis(50));
    let status = client.call("demo.Sloth/Think", request).await;
    println!("the caller: {}", status.err().ok_or("it never answers")?);
    println!("{}", news.recv().await.ok_or("the service is there")?);

    let call = client.call("demo.Sloth/Think", Request::new(Bytes::new()));
    tokio::task::yield_now().await;
    drop(call);
    println!("the caller has lost interest");
    println!("{}", news.recv().await.ok_or("the service is there")?);
    drop(client);
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    valkyrie::block_on(run())?
}
