//! The server's side.

use std::pin::Pin;

use futures_util::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::proto::bench_server::Bench;
use super::proto::{Message, Received};
use crate::wire::measure::Tally;

pub(super) struct Service;

#[tonic::async_trait]
impl Bench for Service {
    async fn echo(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn sink(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Received>, Status> {
        let mut messages = request.into_inner();
        let mut tally = Tally::default();
        while let Some(message) = messages.message().await? {
            tally.add_as(message.index, message.payload.len());
        }
        Ok(Response::new(Received {
            count: tally.count,
            sum: tally.sum,
            bytes: tally.bytes,
        }))
    }

    type TalkStream = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

    async fn talk(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Self::TalkStream>, Status> {
        Ok(Response::new(Box::pin(request.into_inner())))
    }
}
