//! `ringway probe`: what this kernel offers, which driver is chosen, and why not the other.

use ringway::{Capabilities, Config, DriverChoice};
use serde::Serialize;

use crate::args;
use crate::bench::plan::Driver;
use crate::failure::Failure;
use crate::{machine, output};

/// What was found out.
#[derive(Debug, Serialize)]
struct Found {
    kernel: String,
    processor: String,
    /// The driver that an engine without further wishes gets.
    chosen: String,
    /// Why it is not the preferred one.
    fallback: Option<String>,
    drivers: Vec<Tried>,
}

/// One driver.
#[derive(Debug, Serialize)]
struct Tried {
    driver: Driver,
    works: bool,
    /// Why it does not work, and what to do about it.
    why: Option<String>,
    directed_recv: bool,
    udp_gso: bool,
    udp_gro: bool,
    facts: Vec<Fact>,
}

/// One probed feature.
#[derive(Debug, Serialize)]
struct Fact {
    name: &'static str,
    used: bool,
    why: String,
}

/// Probes and prints.
pub(crate) fn run(arguments: &args::Probe) -> Result<(), Failure> {
    let engine = Config::default()
        .driver(DriverChoice::Auto)
        .build()
        .map_err(Failure::Start)?;
    let found = Found {
        kernel: machine::kernel(),
        processor: machine::processor(),
        chosen: engine.capabilities().kind.to_string(),
        fallback: engine.fallback().map(ToString::to_string),
        drivers: [Driver::Uring, Driver::Epoll]
            .into_iter()
            .map(tried)
            .collect(),
    };
    if arguments.json {
        let text = serde_json::to_string(&found)
            .map_err(|error| Failure::Peer(format!("can't write the result: {error}")))?;
        return output::line(text);
    }
    output::line(table(&found).trim_end())
}

fn tried(driver: Driver) -> Tried {
    match Config::default().driver(driver.required()).build() {
        Ok(engine) => {
            let Capabilities {
                facts,
                directed_recv,
                udp_gso,
                udp_gro,
                ..
            } = engine.capabilities().clone();
            let fact = |fact: ringway::Fact| Fact {
                name: fact.name,
                used: fact.used,
                why: fact.why,
            };
            let facts = facts.into_iter().map(fact).collect();
            Tried {
                driver,
                works: true,
                why: None,
                directed_recv,
                udp_gso,
                udp_gro,
                facts,
            }
        }
        Err(error) => Tried {
            driver,
            works: false,
            why: Some(error.to_string()),
            directed_recv: false,
            udp_gso: false,
            udp_gro: false,
            facts: Vec::new(),
        },
    }
}

fn table(found: &Found) -> String {
    let mut text = format!(
        "kernel     {}\nprocessor  {}\n",
        found.kernel, found.processor
    );
    text += &format!("chosen     {}\n", found.chosen);
    if let Some(fallback) = &found.fallback {
        text += &format!("           not uring: {fallback}\n");
    }
    for tried in &found.drivers {
        let state = if tried.works {
            "works"
        } else {
            "does not work"
        };
        text += &format!("\ndriver {}: {state}\n", tried.driver);
        if let Some(why) = &tried.why {
            text += &format!("  {why}\n");
            continue;
        }
        text += &format!(
            "  {} directed receive of large messages\n",
            mark(tried.directed_recv)
        );
        let width = tried
            .facts
            .iter()
            .map(|fact| fact.name.len())
            .max()
            .unwrap_or(0);
        for fact in &tried.facts {
            let line = format!("  {} {:<width$}  {}", mark(fact.used), fact.name, fact.why);
            text += &format!("{}\n", line.trim_end());
        }
    }
    text
}

fn mark(used: bool) -> &'static str {
    if used { "yes" } else { "no " }
}
