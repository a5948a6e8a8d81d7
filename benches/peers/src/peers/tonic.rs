//! tonic: gRPC over HTTP/2.

use bytes::Bytes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use super::asynchronous::{Asynchronous, Call, runtime};
use crate::Outcome;
use crate::contestant::{Client, Setting};
use crate::server::say;

mod generated {
    #![allow(warnings, reason = "generated code")]
    tonic::include_proto!("peers");
}

use generated::echo_client::EchoClient;
use generated::echo_server::{Echo, EchoServer};

/// Wide enough that no window ever closes: four requests of 1 MiB, and room.
const WINDOW_BYTES: u32 = 16 << 20;
/// Longest HTTP/2 frame of the best setting.
const FRAME_BYTES: u32 = 1 << 20;

struct Service;

#[tonic::async_trait]
impl Echo for Service {
    async fn echo(
        &self,
        request: Request<generated::Request>,
    ) -> Result<Response<generated::Answer>, Status> {
        let generated::Request { body, whole } = request.into_inner();
        let body = if whole { body } else { Bytes::new() };
        Ok(Response::new(generated::Answer { body }))
    }
}

pub(crate) fn serve(setting: Setting) -> Outcome<()> {
    runtime(setting)?.block_on(async {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())?.with_nodelay(Some(true));
        say(incoming.local_addr()?);
        let mut server = Server::builder();
        if setting == Setting::Best {
            server = server
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .max_frame_size(FRAME_BYTES);
        }
        server
            .add_service(EchoServer::new(Service))
            .serve_with_incoming(incoming)
            .await?;
        Ok(())
    })
}

struct Tonic(EchoClient<Channel>);

impl Call for Tonic {
    async fn call(&self, body: Bytes, whole: bool) -> Outcome<usize> {
        let mut client = self.0.clone();
        let answer = client.echo(generated::Request { body, whole }).await?;
        Ok(answer.into_inner().body.len())
    }
}

pub(crate) fn connect(address: &str, setting: Setting) -> Outcome<Box<dyn Client>> {
    let runtime = runtime(setting)?;
    let mut endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    if setting == Setting::Best {
        endpoint = endpoint
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
    }
    let channel = runtime.block_on(endpoint.connect())?;
    Ok(Box::new(Asynchronous {
        runtime,
        local: tokio::task::LocalSet::new(),
        client: Tonic(EchoClient::new(channel)),
    }))
}
