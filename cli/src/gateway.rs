//! `ringway gateway`: a server of calls for clients of gRPC and REST; and the same beside `ringway serve`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

pub(crate) use ringway::gateway::Running;
use ringway::gateway::{Gateway, GatewayConfig, JsonOptions, Schema};
use ringway::rpc::Channel;

use crate::calls::{Services, channel};
use crate::failure::Failure;
use crate::{args, output, signals};

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(arguments: &args::Gateway) -> Result<(), Failure> {
    // Before any other thread: they inherit which signals are blocked.
    let (stop, stopped) = mpsc::channel();
    signals::on_stop(move || {
        // Fails only when the other end, below, is gone with the whole command.
        let _gone: Result<(), _> = stop.send(());
    })?;
    let channel = channel(&arguments.backend, arguments.driver, &arguments.tls)?;
    let schema = schema(arguments, &channel)?;
    let json = JsonOptions {
        defaults: arguments.json_defaults,
        ignore_unknown: arguments.ignore_unknown,
        ..JsonOptions::default()
    };
    let config = GatewayConfig::default()
        .message_bytes_max(usize::try_from(arguments.message_bytes_max).unwrap_or(usize::MAX))
        .origins(&arguments.origins)
        .docs(arguments.docs)
        .graphql(arguments.graphql)
        .json(json);
    let gateway = Gateway::new(channel, schema);
    let running = gateway.serve(&arguments.listen.to_string(), config);
    let running = running.map_err(|error| Failure::Connection(error.to_string()))?;
    tell(&running)?;
    output::note(format!(
        "calls go to {}; Ctrl-C drains and stops",
        arguments.backend
    ));
    // Fails only if the thread that waits for signals is gone; then nobody can tell us to go on either.
    let _gone: Result<(), _> = stopped.recv();
    running.stop();
    Ok(())
}

fn schema(arguments: &args::Gateway, channel: &Channel) -> Result<Schema, Failure> {
    let about = |whom: &str, error: &dyn std::fmt::Display| {
        let text = error.to_string();
        if text.contains(whom) {
            text
        } else {
            format!("{whom}: {text}")
        }
    };
    if let Some(proto) = &arguments.proto {
        let folders: Vec<&Path> = arguments.includes.iter().map(|it| &**it).collect();
        let schema = Schema::from_proto(proto, &folders);
        let whom = proto.display().to_string();
        return schema.map_err(|error| Failure::Usage(about(&whom, &error)));
    }
    if let Some(path) = &arguments.descriptors {
        let wrong = |error: &dyn std::fmt::Display| {
            Failure::Usage(about(&path.display().to_string(), error))
        };
        let set = std::fs::read(path).map_err(|error| wrong(&error))?;
        return Schema::from_descriptors(&set).map_err(|error| wrong(&error));
    }
    let timeout = Duration::from_secs_f64(arguments.timeout);
    let schema = Schema::from_server(channel, timeout);
    let whom = arguments.backend.to_string();
    schema.map_err(|error| Failure::Connection(about(&whom, &error)))
}

/// A gateway to an example that is served here: its services live in the gateway's thread and share their state
/// with those of the engines.
pub(crate) fn beside(example: &Services, address: SocketAddr) -> Result<Running, Failure> {
    let example = example.clone();
    let gateway = Gateway::in_process(move || example.server());
    let running = gateway.serve(
        &address.to_string(),
        GatewayConfig::default().docs(true).graphql(true),
    );
    let running = running.map_err(|error| Failure::Connection(error.to_string()))?;
    tell(&running)?;
    Ok(running)
}

fn tell(running: &Running) -> Result<(), Failure> {
    output::line(format!("gateway on http://{}", running.address()))
}
