//! tarpc: a Rust trait over length-delimited bincode.

use bytes::Bytes;
use futures::StreamExt as _;
use serde_bytes::ByteBuf;
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::tokio_serde::formats::Bincode;
use tarpc::tokio_util::codec::LengthDelimitedCodec;
use tarpc::{client, context, serde_transport};
use tokio::net::{TcpListener, TcpStream};

use super::asynchronous::{Asynchronous, Call, runtime};
use crate::Outcome;
use crate::contestant::{Client, Setting};
use crate::server::say;

#[tarpc::service]
trait Echo {
    /// `whole`: the answer is the body; else it is empty.
    async fn echo(body: ByteBuf, whole: bool) -> ByteBuf;
}

#[derive(Clone)]
struct Service;

impl Echo for Service {
    async fn echo(self, _: context::Context, body: ByteBuf, whole: bool) -> ByteBuf {
        if whole { body } else { ByteBuf::new() }
    }
}

pub(crate) fn serve(setting: Setting) -> Outcome<()> {
    runtime(setting)?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        say(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            // Without it, tarpc's answers wait for acknowledgements that the client delays.
            stream.set_nodelay(true)?;
            let framed = LengthDelimitedCodec::builder().new_framed(stream);
            let transport = serde_transport::new(framed, Bincode::default());
            let answers = BaseChannel::with_defaults(transport).execute(Service.serve());
            tokio::spawn(answers.for_each(async |answer| {
                tokio::spawn(answer);
            }));
        }
    })
}

struct Tarpc(EchoClient);

impl Call for Tarpc {
    async fn call(&self, body: Bytes, whole: bool) -> Outcome<usize> {
        let body = ByteBuf::from(body.to_vec());
        Ok(self.0.echo(context::current(), body, whole).await?.len())
    }
}

pub(crate) fn connect(address: &str, setting: Setting) -> Outcome<Box<dyn Client>> {
    let runtime = runtime(setting)?;
    let client = runtime.block_on(async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let framed = LengthDelimitedCodec::builder().new_framed(stream);
        let transport = serde_transport::new(framed, Bincode::default());
        Outcome::Ok(EchoClient::new(client::Config::default(), transport).spawn())
    })?;
    Ok(Box::new(Asynchronous {
        runtime,
        local: tokio::task::LocalSet::new(),
        client: Tarpc(client),
    }))
}
