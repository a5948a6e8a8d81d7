//! An echo server in a process of its own, and a few words with it over every transport that needs no certificate.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringway::{Address, Closed, Config, ConnectionId, Context, Handler, Idle, Message, Peer};

use crate::bench::plan::Driver;
use crate::failure::Failure;
use crate::output;

/// What is said.
const WORDS: [&str; 3] = ["hello", "how are you?", "goodbye"];
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts `ringway serve` on all transports, talks to it, and stops it again.
pub(crate) fn run(driver: Driver) -> Result<(), Failure> {
    let unix = format!("unix://@ringway-demo-{}", std::process::id());
    let addresses = [
        "tcp://127.0.0.1:0",
        &unix,
        "udp://127.0.0.1:0",
        "rudp://127.0.0.1:0",
    ];
    let (mut server, addresses) = Server::start(driver, &addresses, &[])?;
    output::line(format!("echo server: process {}", server.id()))?;
    for address in &addresses {
        let answers = talk(driver, address)?;
        output::line(format!("  {address}: {}", answers.join(", ")))?;
    }
    server.stop()?;
    output::line("echo server: drained and ended\n")
}

/// A server process. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Server(Child);

impl Server {
    /// Starts `ringway serve` on these addresses; also where it listens.
    pub(super) fn start(
        driver: Driver,
        addresses: &[&str],
        options: &[&str],
    ) -> Result<(Self, Vec<Address>), Failure> {
        let what = "start the server";
        let executable = std::env::current_exe().map_err(Failure::system(what))?;
        let (driver, parent) = (driver.to_string(), std::process::id().to_string());
        let mut child = Command::new(executable)
            .args(["serve", "--driver", &driver, "--parent", &parent])
            .args(options)
            .args(addresses)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Failure::system(what))?;
        let stdout = child.stdout.take();
        let server = Self(child);
        let lines = stdout
            .into_iter()
            .flat_map(|stdout| BufReader::new(stdout).lines());
        let mut found = Vec::new();
        for line in lines.take(addresses.len()) {
            let line = line.map_err(Failure::system("hear from the server"))?;
            let address = line.strip_prefix("listening on ").map(str::parse);
            match address {
                Some(Ok(address)) => found.push(address),
                _ => return Err(Failure::Peer(format!("server: `{line}`"))),
            }
        }
        if found.len() < addresses.len() {
            let text = "the server ended before it listened";
            return Err(Failure::Peer(text.to_owned()));
        }
        Ok((server, found))
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to drain, and waits until it has.
    pub(super) fn stop(&mut self) -> Result<(), Failure> {
        let what = "stop the server";
        let id = Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(0));
        kill(id, Signal::SIGTERM).map_err(Failure::errno(what))?;
        let status = self.0.wait().map_err(Failure::system(what))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Peer(format!("the server ended with {status}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The handler: keeps what comes back.
#[derive(Debug, Default)]
struct Talk {
    opened: bool,
    answer: Option<String>,
    closed: Option<String>,
}

impl Handler for Talk {
    fn message(&mut self, _cx: &mut Context<'_>, message: Message<'_>) {
        self.answer = Some(String::from_utf8_lossy(message.body()).into_owned());
    }

    fn opened(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, _peer: &Peer) {
        self.opened = true;
    }

    fn closed(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId, closed: &Closed) {
        self.closed = Some(closed.to_string());
    }
}

/// Says the words one by one; returns what came back.
fn talk(driver: Driver, address: &Address) -> Result<Vec<String>, Failure> {
    let config = Config::default()
        .driver(driver.required())
        .idle(Idle::Adaptive);
    let mut engine = config
        .build()
        .map_err(|error| Failure::DriverRefused { driver, error })?;
    let mut talk = Talk::default();
    let opening = |error| Failure::Open {
        address: address.clone(),
        error,
    };
    let connection = engine.connect(&address.to_string()).map_err(opening)?;
    let lost = |why: &str| Failure::Connection(format!("{address}: {why}"));
    let deadline = engine.now() + PATIENCE;
    let mut answers = Vec::new();
    let mut said = 0;
    while answers.len() < WORDS.len() {
        if let Some(why) = &talk.closed {
            return Err(lost(why));
        }
        let left = deadline.saturating_since(engine.now());
        if left.is_zero() {
            return Err(lost("no answer"));
        }
        if talk.opened && said == answers.len() {
            let word = WORDS.get(said).copied().unwrap_or_default();
            let sent = engine.context().send(connection, word.as_bytes());
            sent.map_err(|error| lost(&error.to_string()))?;
            said += 1;
        }
        engine.wait(&mut talk, Some(left));
        answers.extend(talk.answer.take());
    }
    if answers == WORDS {
        Ok(answers)
    } else {
        Err(lost("the echo differs"))
    }
}
