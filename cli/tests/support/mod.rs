//! Runs the built command as a user would.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The command with these arguments, not yet started.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What the command with these arguments said, and how it ended.
pub(crate) fn ringway(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Standard output as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Sends a signal to one process that this test started.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// The drivers that work here.
pub(crate) fn drivers() -> Vec<String> {
    let probe = ringway(&["probe", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&stdout(&probe)).unwrap();
    let working = |driver: &serde_json::Value| {
        driver["works"]
            .as_bool()
            .unwrap()
            .then(|| driver["driver"].as_str().unwrap().to_owned())
    };
    found["drivers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(working)
        .collect()
}

/// A running `ringway serve`; dropping it ends it.
pub(crate) struct Server {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) addresses: Vec<String>,
}

impl Server {
    /// Starts it and waits until it listens on `addresses` and with `more` arguments.
    pub(crate) fn start(addresses: &[&str], more: &[&str]) -> Self {
        let mut child = command(&["serve"])
            .args(addresses)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let addresses = addresses.iter().map(|_| {
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            line.trim_end()
                .strip_prefix("listening on ")
                .unwrap()
                .to_owned()
        });
        let addresses = addresses.collect();
        Self {
            child,
            stdout,
            addresses,
        }
    }

    /// Its next line.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Asks it to drain; its exit code and what it said at the end.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        signal(&self.child, Signal::SIGTERM);
        let mut said = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        self.stdout.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
