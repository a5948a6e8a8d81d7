//! capnp-rpc: Cap'n Proto over one connection. It is bound to its thread in either setting.

use bytes::Bytes;
use capnp_rpc::{RpcSystem, rpc_twoparty_capnp, twoparty};
use futures::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::asynchronous::{Asynchronous, Call, runtime, sleeping_thread};
use super::echo_capnp::echo;
use crate::Outcome;
use crate::contestant::{Client, Setting};
use crate::server::say;

struct Service;

impl echo::Server for Service {
    async fn echo(
        self: capnp::capability::Rc<Self>,
        params: echo::EchoParams,
        mut results: echo::EchoResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let body = if params.get_whole() {
            params.get_body()?
        } else {
            &[]
        };
        results.get().set_body(body);
        Ok(())
    }
}

fn thread(setting: Setting) -> Outcome<Runtime> {
    match setting {
        Setting::Default => sleeping_thread(),
        Setting::Best => runtime(setting),
    }
}

fn network(
    stream: TcpStream,
    side: rpc_twoparty_capnp::Side,
) -> Outcome<Box<twoparty::VatNetwork<impl futures::AsyncRead + Unpin>>> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.compat().split();
    let (reader, writer) = (
        futures::io::BufReader::new(reader),
        futures::io::BufWriter::new(writer),
    );
    Ok(Box::new(twoparty::VatNetwork::new(
        reader,
        writer,
        side,
        Default::default(),
    )))
}

pub(crate) fn serve(setting: Setting) -> Outcome<()> {
    let work = async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        say(listener.local_addr()?);
        let service: echo::Client = capnp_rpc::new_client(Service);
        loop {
            let (stream, _) = listener.accept().await?;
            let network = network(stream, rpc_twoparty_capnp::Side::Server)?;
            tokio::task::spawn_local(RpcSystem::new(network, Some(service.clone().client)));
        }
    };
    thread(setting)?.block_on(LocalSet::new().run_until(work))
}

struct Capnp(echo::Client);

impl Call for Capnp {
    async fn call(&self, body: Bytes, whole: bool) -> Outcome<usize> {
        let mut request = self.0.echo_request();
        request.get().set_body(&body);
        request.get().set_whole(whole);
        let answer = request.send().promise.await?;
        Ok(answer.get()?.get_body()?.len())
    }
}

pub(crate) fn connect(address: &str, setting: Setting) -> Outcome<Box<dyn Client>> {
    let (runtime, local) = (thread(setting)?, LocalSet::new());
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        let network = network(stream, rpc_twoparty_capnp::Side::Client)?;
        let mut system = RpcSystem::new(network, None);
        let client = system.bootstrap(rpc_twoparty_capnp::Side::Server);
        tokio::task::spawn_local(system);
        Outcome::Ok(client)
    };
    let client = runtime.block_on(local.run_until(connecting))?;
    Ok(Box::new(Asynchronous {
        runtime,
        local,
        client: Capnp(client),
    }))
}
