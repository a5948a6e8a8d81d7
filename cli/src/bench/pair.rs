//! The parent's end of a process pair: starts the child, talks to it, and never leaves it behind.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ringway::Address;

use super::control::{Order, Report, Side};
use super::plan::{Plan, Transport};
use super::usage::Usage;
use crate::cert::Certificate;
use crate::failure::Failure;
use crate::machine::Cores;

/// A running child and both pipes to it. Dropping it ends the child.
#[derive(Debug)]
pub(crate) struct Pair {
    child: Child,
    certificate: Option<Certificate>,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Pair {
    /// Starts this same executable as the server process.
    pub(crate) fn start(plan: Plan, cores: Cores) -> Result<Self, Failure> {
        let what = "start the server process";
        let certificate = match plan.transport {
            Transport::Quic => Some(Certificate::new(&["127.0.0.1".to_owned()], 1)?),
            _ => None,
        };
        let executable = std::env::current_exe().map_err(Failure::system(what))?;
        let mut child = Command::new(executable)
            .arg("bench-peer")
            .args(["--parent", &std::process::id().to_string()])
            .args(["--core", &cores.server.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failure::system(what))?;
        let (Some(orders), Some(reports)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::Peer("the server process has no pipes".to_owned()));
        };
        let mut pair = Self {
            child,
            certificate,
            orders,
            reports: BufReader::new(reports),
        };
        let certificate = pair.certificate.clone();
        pair.tell(&Order::Plan(plan, certificate))?;
        Ok(pair)
    }

    /// What the servers of this pair show, if it is QUIC.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Says something to the child.
    pub(crate) fn tell(&mut self, order: &Order) -> Result<(), Failure> {
        let mut line = serde_json::to_string(order)
            .map_err(|error| Failure::Peer(format!("can't write an order: {error}")))?;
        line.push('\n');
        self.orders
            .write_all(line.as_bytes())
            .map_err(|error| self.gone(&error.to_string()))
    }

    /// Waits for the child's next word.
    pub(crate) fn hear(&mut self) -> Result<Report, Failure> {
        let mut line = String::new();
        let read = self.reports.read_line(&mut line);
        match read {
            Ok(0) => Err(self.gone("it said nothing more")),
            Ok(_) => match serde_json::from_str(&line) {
                Ok(Report::Failed(why)) => Err(Failure::Peer(format!("server process: {why}"))),
                Ok(report) => Ok(report),
                Err(error) => Err(Failure::Peer(format!("server process: no report: {error}"))),
            },
            Err(error) => Err(self.gone(&error.to_string())),
        }
    }

    /// Makes a contestant's server listen.
    pub(crate) fn listen(&mut self, side: Side) -> Result<Address, Failure> {
        self.tell(&Order::Listen(side))?;
        match self.hear()? {
            Report::Listening(address) => address
                .parse()
                .map_err(|error| Failure::Peer(format!("server process: {error}"))),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the child is about to begin a block.
    pub(crate) fn ready(&mut self) -> Result<(), Failure> {
        match self.hear()? {
            Report::Ready => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for what a block cost the child.
    pub(crate) fn done(&mut self) -> Result<Usage, Failure> {
        match self.hear()? {
            Report::Done(usage) => Ok(usage),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until all connections are accepted: resident bytes before and after.
    pub(crate) fn accepted(&mut self) -> Result<(u64, u64), Failure> {
        match self.hear()? {
            Report::Resident { before, now } => Ok((before, now)),
            other => Err(unexpected(&other)),
        }
    }

    fn gone(&mut self, why: &str) -> Failure {
        let ended = match self.child.try_wait() {
            Ok(Some(status)) => status.to_string(),
            _ => why.to_owned(),
        };
        Failure::Peer(format!("the server process is gone: {ended}"))
    }
}

impl Drop for Pair {
    /// Nothing is lost by killing it: a child of a measurement holds no state of anybody's.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn unexpected(report: &Report) -> Failure {
    Failure::Peer(format!("server process: an unexpected report: {report:?}"))
}
