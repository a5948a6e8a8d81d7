//! A server that is called, and what a call's end means to the person who made it.

use std::time::Duration;

use ringway::rpc::{
    CallConfig, CallOptions, Channel, ClientEngine, Clients, Code, Incoming, Kind, Method,
    Outgoing, Raw, Reflection, Status,
};
use ringway::{Address, Config, DriverChoice};

use super::args::Reach;
use super::lz4;
use crate::bench::plan::Driver;
use crate::failure::Failure;
use crate::{args, tls};

/// A call whose messages are bytes.
pub(crate) type Stream = (Outgoing<Raw, [u8]>, Incoming<Raw, Vec<u8>>);

/// A server that is called.
#[derive(Debug)]
pub(crate) struct Remote {
    channel: Channel,
    address: Address,
    wait_for_ready: bool,
}

impl Remote {
    /// Starts connecting; calls tell whether it worked.
    pub(crate) fn new(address: &Address, reach: &Reach) -> Result<Self, Failure> {
        Ok(Self {
            channel: channel(address, reach.driver, &reach.tls)?,
            address: address.clone(),
            wait_for_ready: reach.wait_for_ready,
        })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Options of an ordinary call to it.
    pub(crate) fn options(&self, timeout: Option<Duration>) -> CallOptions<'static> {
        CallOptions {
            timeout,
            wait_for_ready: self.wait_for_ready,
            ..CallOptions::default()
        }
    }

    /// Asks it what it serves, until `timeout`.
    pub(crate) fn reflection(&self, timeout: Option<Duration>) -> Reflection {
        Reflection::open(&self.channel, &self.options(timeout))
    }

    /// Opens a call of any kind; with `first` the client says no more.
    pub(crate) fn open(
        &self,
        method: Method,
        first: Option<&[u8]>,
        options: &CallOptions<'_>,
    ) -> Stream {
        let methods: std::sync::Arc<[Method]> = [method].into();
        self.channel
            .open(methods, 0, first, first.is_some(), options)
    }

    /// Makes a unary call with protobuf messages.
    pub(crate) fn unary<Q, R>(
        &self,
        name: &str,
        request: &Q,
        timeout: Option<Duration>,
    ) -> Result<R, Failure>
    where
        Q: prost::Message,
        R: prost::Message + Default,
    {
        let method = Method::found(name, Kind::Unary, PROTOBUF, 0);
        let request = request.encode_to_vec();
        let (_out, answer) = self.open(method, Some(&request), &self.options(timeout));
        let answer = answer
            .answer_wait()
            .map_err(|status| Failure::call(name, status))?;
        R::decode(answer.bytes()).map_err(|error| undecodable(name, &error))
    }
}

/// Starts connecting to a server of calls.
pub(crate) fn channel(
    address: &Address,
    driver: Option<Driver>,
    trust: &args::Tls,
) -> Result<Channel, Failure> {
    if matches!(address, Address::Udp(_)) {
        let text = format!(
            "{address} carries plain datagrams; calls need tcp://, unix://, rudp:// or quic://"
        );
        return Err(Failure::Usage(text));
    }
    let choice = driver.map_or(DriverChoice::Auto, Driver::required);
    let quic = tls::connecting(trust, address)?;
    let engine = ClientEngine::start_with(
        move || tls::with(Config::default().driver(choice), quic),
        || Clients::new(CallConfig::default(), lz4::compressors()),
    );
    let opened = engine.and_then(|engine| engine.channel(&address.to_string()));
    opened.map_err(|status| Failure::Connection(status.message.into_owned()))
}

/// Number of the protobuf codec.
pub(crate) const PROTOBUF: u8 = 1;

/// An answer that is no message of its type.
pub(crate) fn undecodable(name: &str, error: &dyn std::fmt::Display) -> Failure {
    let text = format!("the answer can't be decoded: {error}");
    Failure::call(name, Status::new(Code::Internal, &text))
}
