//! ringway's side of the RPC workloads: a service of plain functions, called by the inline channel.

mod client;
mod server;
mod service;

use ringway::rpc::{Status, feature};
use ringway::{Engine, TlsConfig};

use super::super::plan::Plan;
use crate::failure::Failure;

pub(crate) use client::CallClient;
pub(crate) use server::CallServer;

/// An engine that speaks calls, with the driver that the plan names or none.
fn engine(plan: &Plan, tls: Option<TlsConfig>) -> Result<Engine, Failure> {
    super::build(plan, super::config(plan, tls).features(feature::RPC))
}

fn failed(status: Status) -> Failure {
    Failure::Connection(format!("ringway call: {status}"))
}
