//! Where a call's requests come from: arguments, files, standard input.

use std::io::{BufRead as _, Read as _};

use super::form::Form;
use crate::failure::Failure;

/// Most bytes of one file, one line, or one request on standard input.
const BYTES_MAX: u64 = 256 << 20;

/// What a client sends.
#[derive(Debug)]
pub(crate) enum Input {
    /// All of it is known.
    Given(Vec<Vec<u8>>),
    /// Messages come on standard input, one on each line.
    Lines,
}

impl Input {
    /// Reads the arguments, checks them, and says what is wrong.
    pub(crate) fn of(data: &[String], form: &Form, client_streams: bool) -> Result<Self, Failure> {
        let is_stdin = data.iter().any(|it| it == "-");
        if is_stdin && data.len() > 1 {
            let text = "`-` takes all messages from standard input; give no other DATA beside it";
            return Err(Failure::Usage(text.to_owned()));
        }
        if is_stdin && client_streams {
            return Ok(Self::Lines);
        }
        let mut messages = Vec::new();
        for (index, text) in data.iter().enumerate() {
            let read = if is_stdin {
                form.parse(&whole(&mut std::io::stdin().lock(), "-")?, "standard input")?
            } else if let Some(path) = text.strip_prefix('@') {
                let mut file =
                    std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
                form.parse(&whole(&mut file, path)?, path)?
            } else {
                form.parse(text, &format!("DATA {}", index + 1))?
            };
            messages.extend(read);
        }
        if client_streams {
            return Ok(Self::Given(messages));
        }
        match messages.len() {
            0 => Ok(Self::Given(vec![Vec::new()])),
            1 => Ok(Self::Given(messages)),
            many => Err(Failure::Usage(format!(
                "the method takes one message, but DATA holds {many}"
            ))),
        }
    }
}

fn unreadable(path: &str, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("reading {path}: {error}"))
}

fn whole(source: &mut dyn std::io::Read, path: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = source.take(BYTES_MAX).read_to_string(&mut text);
    match read {
        Ok(read) if (read as u64) < BYTES_MAX => Ok(text),
        Ok(_) => Err(Failure::Usage(format!(
            "{path} is longer than {BYTES_MAX} bytes"
        ))),
        Err(error) => Err(unreadable(path, &error)),
    }
}

/// Hands the messages on standard input to `send`, one for each line that is not empty, until that says stop.
pub(crate) fn lines(form: &Form, mut send: impl FnMut(&[u8]) -> bool) -> Result<(), Failure> {
    let mut stdin = std::io::stdin().lock();
    let mut line = String::new();
    for number in 1_u64.. {
        line.clear();
        let place = format!("standard input, line {number}");
        match (&mut stdin).take(BYTES_MAX).read_line(&mut line) {
            Ok(0) => return Ok(()),
            Ok(read) if read as u64 == BYTES_MAX => {
                return Err(Failure::Usage(format!(
                    "{place}: longer than {BYTES_MAX} bytes"
                )));
            }
            Ok(_) => {}
            Err(error) => return Err(unreadable(&place, &error)),
        }
        let text = line.trim_end_matches(['\n', '\r']);
        if text.trim().is_empty() {
            continue;
        }
        if !form
            .parse(text, &place)?
            .iter()
            .all(|message| send(message))
        {
            return Ok(());
        }
    }
    Ok(())
}
