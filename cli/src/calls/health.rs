//! `ringway health`: what `grpc.health.v1.Health` says.

use prost::Message as _;
use ringway::rpc::{Kind, Method};

use super::args;
use super::remote::{PROTOBUF, Remote, undecodable};
use crate::failure::Failure;
use crate::output;

const CHECK: &str = "grpc.health.v1.Health/Check";
const WATCH: &str = "grpc.health.v1.Health/Watch";

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

impl Response {
    fn name(&self) -> &'static str {
        match self.status {
            SERVING => "SERVING",
            2 => "NOT_SERVING",
            3 => "SERVICE_UNKNOWN",
            _ => "UNKNOWN",
        }
    }
}

/// Asks once, or watches until the server or the reader goes away.
pub(crate) fn run(arguments: &args::Health) -> Result<(), Failure> {
    let remote = Remote::new(&arguments.address, &arguments.reach)?;
    let request = Request {
        service: arguments.service.clone(),
    };
    if arguments.watch {
        let method = Method::found(WATCH, Kind::ServerStream, PROTOBUF, 0);
        let request = request.encode_to_vec();
        let (_out, mut answers) = remote.open(method, Some(&request), &remote.options(None));
        while let Some(answer) = answers
            .next_wait()
            .map_err(|status| Failure::call(WATCH, status))?
        {
            let answer = Response::decode(&*answer).map_err(|error| undecodable(WATCH, &error))?;
            output::line(answer.name())?;
        }
        return Ok(());
    }
    let answer: Response = remote.unary(CHECK, &request, Some(arguments.timeout))?;
    output::line(answer.name())?;
    if answer.status == SERVING {
        return Ok(());
    }
    let whom = match arguments.service.as_str() {
        "" => "the server",
        service => service,
    };
    Err(Failure::NotServing(whom.to_owned()))
}
