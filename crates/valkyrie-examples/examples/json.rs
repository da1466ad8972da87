//! Messages that serde writes and reads, as JSON.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use valkyrie::{
    Endpoint, Json, LocalClient, Request, Response, Router, Server, Service, Status, Stub,
};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    article: String,
    pieces: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Bill {
    text: String,
    cents: u64,
}

async fn bill(request: Request<Order>) -> Result<Response<Bill>, Status> {
    let Order { article, pieces } = request.into_inner();
    if pieces == 0 {
        return Err(Status::malformed("order at least one piece"));
    }
    let mut response = Response::new(Bill {
        text: format!("{pieces} x {article}"),
        cents: u64::from(pieces) * 250,
    });
    let metadata = response.metadata_mut();
    metadata
        .insert("currency", b"EUR")
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(response)
}

async fn run() -> Result<(), Box<dyn Error>> {
    let endpoint: Endpoint = "valkyrie+mem://json".parse()?;
    let router = Router::new().with(Service::new("demo.Shop", Json).unary("Bill", bill));
    let server = Server::builder().listen(&endpoint, router).await?;
    let shop = Stub::new(LocalClient::connect(&endpoint).await?, Json);
    for pieces in [3, 0] {
        let article = "pencil".to_owned();
        let request = Request::new(Order { article, pieces });
        let answer: Result<Response<Bill>, Status> = shop.unary("demo.Shop/Bill", request).await;
        match answer {
            Ok(bill) => println!(
                "{:?} in {}",
                bill.get_ref(),
                bill.metadata().get_str("currency").unwrap_or("?")
            ),
            Err(status) => println!("refused: {status}"),
        }
    }
    drop(shop);
    server.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    valkyrie::block_on(run())?
}
