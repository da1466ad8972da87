//! An end that lets everything finish.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use valkyrie::{
    Bytes, Endpoint, LocalClient, Raw, Receiver, Request, Response, Router, Server, Service,
    Status, Streaming, Stub, channel,
};

/// Five answers, one every ten milliseconds.
async fn count(_request: Request<Bytes>) -> Result<Response<Receiver<Bytes>>, Status> {
    let (sender, receiver) = channel(1);
    tokio::task::spawn_local(async move {
        for number in 1..=5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if sender.send(Bytes::from(number.to_string())).await.is_err() {
                return;
            }
        }
    });
    Ok(Response::new(receiver))
}

async fn run() -> Result<(), Box<dyn Error>> {
    let endpoint: Endpoint = "valkyrie+mem://shutdown".parse()?;
    let router =
        Router::new().with(Service::new("demo.Counter", Raw).server_stream("Count", count));
    let server = Server::builder().listen(&endpoint, router).await?;
    let counter = Stub::new(LocalClient::connect(&endpoint).await?, Raw);
    let start =
        || counter.server_stream::<_, Bytes>("demo.Counter/Count", Request::new(Bytes::new()));
    let mut numbers: Streaming<Bytes> = start().await?.into_inner();
    println!("counting: {:?}", numbers.message().await?);

    println!("the server shuts down");
    let down = tokio::task::spawn_local(server.shutdown(Duration::from_secs(10)));
    while !counter.service().link().session().is_closing() {
        tokio::task::yield_now().await;
    }
    let refused = start().await.err().ok_or("nothing new is taken")?;
    println!("a new one: {refused}, {:?}", refused.retry());
    while let Some(number) = numbers.message().await? {
        println!("still counting: {}", String::from_utf8_lossy(&number));
    }
    down.await?;
    println!(
        "the connection: {}",
        counter.service().link().closed().await
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    valkyrie::block_on(run())?
}
