//! What may be written behind `ringway impair`, and what it means.

use std::time::Duration;

use clap::Args;
use ringway::Address;
use ringway::sim::{Chance, PathConfig, Span};

use crate::bench::plan::Driver;

/// Bytes of the heads of IPv4 and UDP, which an MTU counts and a datagram does not.
const HEAD_BYTES: u32 = 28;
/// Fewest bytes of an MTU: what every host must be able to receive (RFC 791).
const MTU_BYTES_MIN: u32 = 576;

const HELP: &str = "\
Datagrams of every protocol pass: udp://, rudp://, quic:// and foreign ones; tcp:// and unix:// do not, because the
kernel repairs streams before anybody could see the damage. Each client gets a port of its own towards the server, as
behind a translator of addresses (NAT). Every option holds for both ways of each client; the same seed draws the same
faults for the same datagrams. What happened is told at the end (Ctrl-C, or --duration).

Times are written as 500us, 2ms or 1.5s, chances as 1% or 0.01, sizes as 1500, 64k or 1M, rates as 20mbit or 1gbit.

Examples:
  ringway serve rudp://127.0.0.1:7000
  ringway impair --listen udp://127.0.0.1:7001 --to udp://127.0.0.1:7000 --loss 1% --delay 2ms --seed 7
  ringway ping rudp://127.0.0.1:7001

  ringway impair --listen udp://[::]:4433 --to udp://server:443 --burst 0.5%:8 --reorder 2%:3ms --rate 20mbit \
--queue 64k --rebind 5s --partition 200ms/10s --json";

/// Arguments of `ringway impair`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct Impair {
    /// Where clients are taken: udp://, rudp:// or quic://, which mean the same here
    #[arg(long, value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) listen: Address,
    /// The server
    #[arg(long, value_name = "ADDRESS", value_parser = Address::resolve)]
    pub(crate) to: Address,
    /// Datagrams that are lost, each by itself
    #[arg(long, value_name = "CHANCE", value_parser = chance)]
    pub(crate) loss: Option<Chance>,
    /// Loss in bursts: chance that one begins, its mean length in datagrams (default 10), and how many of them are lost
    /// (default 100%)
    #[arg(long, value_name = "CHANCE[:LENGTH[:CHANCE]]", value_parser = burst)]
    pub(crate) burst: Option<Burst>,
    /// Time that every datagram takes one way
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) delay: Option<Duration>,
    /// Time between nothing and this that is added; never reorders by itself
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) jitter: Option<Duration>,
    /// Datagrams that are held back, for up to a time (default 1ms), while others pass them
    #[arg(long, value_name = "CHANCE[:TIME]", value_parser = reorder)]
    pub(crate) reorder: Option<(Chance, Duration)>,
    /// Datagrams that arrive twice
    #[arg(long, value_name = "CHANCE", value_parser = chance)]
    pub(crate) duplicate: Option<Chance>,
    /// Datagrams in which 1 to 8 bits are flipped
    #[arg(long, value_name = "CHANCE", value_parser = chance)]
    pub(crate) corrupt: Option<Chance>,
    /// Datagrams that lose their end
    #[arg(long, value_name = "CHANCE", value_parser = chance)]
    pub(crate) truncate: Option<Chance>,
    /// Bits per second
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) rate: Option<u32>,
    /// Bytes that wait for the rate before more are dropped; by default 1M
    #[arg(long, value_name = "BYTES", value_parser = bytes, requires = "rate")]
    pub(crate) queue: Option<u32>,
    /// Bytes that wait from which on datagrams that allow it are marked "congestion experienced" (ECN)
    #[arg(long, value_name = "BYTES", value_parser = bytes, requires = "rate")]
    pub(crate) mark: Option<u32>,
    /// Longest packet, heads of IP and UDP included; longer ones vanish without a word
    #[arg(long, value_name = "BYTES", value_parser = mtu)]
    pub(crate) mtu: Option<u32>,
    /// How often each client gets a new port towards the server, as from a translator that forgets
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(crate) rebind: Option<Duration>,
    /// Nothing passes for a time, so often
    #[arg(long, value_name = "TIME/EVERY", value_parser = partition)]
    pub(crate) partition: Option<(Duration, Duration)>,
    /// Seed of everything random; without it one of the clock's, which is told
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Clients at a time; datagrams of more are dropped and counted
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) clients: u16,
    /// How long a client may be silent before it is forgotten
    #[arg(long, default_value = "120s", value_name = "TIME", value_parser = some_time)]
    pub(crate) idle: Duration,
    /// How long to run; without it until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub(crate) duration: Option<Duration>,
    /// Which driver; without it io_uring where it works, else epoll
    #[arg(long, value_enum)]
    pub(crate) driver: Option<Driver>,
    /// What happened as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Loss in bursts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    enter: Chance,
    leave: Chance,
    loss: Chance,
}

impl Impair {
    /// The network that the options describe.
    pub(crate) fn path(&self) -> PathConfig {
        let mut path = PathConfig::default();
        path.link.delay = Span::fixed(self.delay.unwrap_or_default());
        path.link.jitter = self.jitter.unwrap_or_default();
        path.link.bandwidth_bytes_per_s = u64::from(self.rate.unwrap_or(0)) * 1_000 / 8;
        path.link.queue_bytes = self.queue.unwrap_or(path.link.queue_bytes);
        path.link.ecn_threshold_bytes = self.mark.unwrap_or(0);
        let faults = &mut path.faults;
        faults.loss = self.loss.unwrap_or_default();
        if let Some(burst) = self.burst {
            faults.burst_enter = burst.enter;
            faults.burst_leave = burst.leave;
            faults.burst_loss = burst.loss;
        }
        if let Some((chance, window)) = self.reorder {
            faults.reorder = chance;
            faults.reorder_window = window;
        }
        faults.duplicate = self.duplicate.unwrap_or_default();
        faults.corrupt = self.corrupt.unwrap_or_default();
        faults.truncate = self.truncate.unwrap_or_default();
        faults.black_hole_bytes = self.mtu.map_or(0, |mtu| mtu - HEAD_BYTES);
        faults.rebind_every = self.rebind.unwrap_or_default();
        if let Some((time, every)) = self.partition {
            faults.partition_time = time;
            faults.partition_every = every;
        }
        path
    }
}

/// A number in one of `units`, each with its factor; `what` it is, and how to write it, if it is not.
fn measured(text: &str, what: &str, units: &[(&str, f64)], fix: &str) -> Result<f64, String> {
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let number: f64 = match number.parse() {
        Ok(number) if f64::is_finite(number) => number,
        _ => return Err(format!("not a number; {fix}")),
    };
    match units.iter().find(|(known, _)| *known == unit) {
        Some((_, factor)) => Ok(number * factor),
        None if unit.is_empty() => Err(format!("{what} needs its unit; {fix}")),
        None => Err(format!("`{unit}` is no unit of {what}; {fix}")),
    }
}

/// The nearest whole number of one that is neither below zero nor too large for it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "callers check the range; beyond it the nearest that there is"
)]
fn whole(number: f64) -> u32 {
    number.round() as u32
}

fn chance(text: &str) -> Result<Chance, String> {
    let fix = "write it as 1% or 0.01, at most 100%";
    let share = measured(text, "a chance", &[("%", 0.01), ("", 1.0)], fix)?;
    if share > 1.0 {
        return Err(format!("more than always; {fix}"));
    }
    let parts = whole(share * 1e6);
    if share > 0.0 && parts == 0 {
        return Err(
            "less than one in a million, the smallest chance there is; leave it out".into(),
        );
    }
    Ok(Chance::parts(parts))
}

fn time(text: &str) -> Result<Duration, String> {
    let fix = "write it as 500us, 2ms or 1.5s, at most 1h";
    let units = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let seconds = measured(text, "a time", &units, fix)?;
    if seconds > 3600.0 {
        return Err(format!("too long; {fix}"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// A time that means something only if it is more than none.
fn some_time(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time.is_zero() {
        return Err("no time at all; write more, as 2ms, or leave it out".to_owned());
    }
    Ok(time)
}

fn bytes(text: &str) -> Result<u32, String> {
    let fix = "write bytes as 1500, 64k or 1M, at most 1000M";
    let (kilo, mega) = (1024.0, 1024.0 * 1024.0);
    let units = [
        ("", 1.0),
        ("b", 1.0),
        ("B", 1.0),
        ("k", kilo),
        ("K", kilo),
        ("m", mega),
        ("M", mega),
    ];
    let bytes = measured(text, "bytes", &units, fix)?;
    if !(1.0..=1000.0 * mega).contains(&bytes) {
        return Err(format!("out of range; {fix}"));
    }
    Ok(whole(bytes))
}

/// Bits per second, in thousands.
fn rate(text: &str) -> Result<u32, String> {
    let fix = "write bits per second as 500kbit, 20mbit or 1gbit, from 8kbit to 100gbit";
    let units = [("kbit", 1.0), ("mbit", 1e3), ("gbit", 1e6)];
    let kilobits = measured(&text.to_ascii_lowercase(), "a rate", &units, fix)?;
    if !(8.0..=1e8).contains(&kilobits) {
        return Err(format!("out of range; {fix}"));
    }
    Ok(whole(kilobits))
}

fn mtu(text: &str) -> Result<u32, String> {
    let mtu = bytes(text).ok();
    mtu.filter(|mtu| (MTU_BYTES_MIN..=65_535).contains(mtu))
        .ok_or_else(|| format!("write {MTU_BYTES_MIN} to 65535 bytes; rudp and QUIC need 1228"))
}

fn burst(text: &str) -> Result<Burst, String> {
    let mut parts = text.split(':');
    let enter = chance(parts.next().unwrap_or(""))?;
    let length = match parts.next() {
        None => 10.0,
        Some(length) => length
            .parse()
            .ok()
            .filter(|length| (1.0..=10_000.0).contains(length))
            .ok_or("the length of a burst is 1 to 10000 datagrams, as in 0.5%:8")?,
    };
    let loss = parts.next().map_or(Ok(Chance::ALWAYS), chance)?;
    if parts.next().is_some() {
        return Err("too many parts; write it as 0.5%:8:90%".to_owned());
    }
    let leave = Chance::parts(whole(1e6_f64 / length));
    Ok(Burst { enter, leave, loss })
}

fn reorder(text: &str) -> Result<(Chance, Duration), String> {
    match text.split_once(':') {
        None => Ok((chance(text)?, Duration::from_millis(1))),
        Some((share, window)) => Ok((chance(share)?, some_time(window)?)),
    }
}

fn partition(text: &str) -> Result<(Duration, Duration), String> {
    let fix = "write how long and how often, as 200ms/10s";
    let (lasts, every) = text.split_once('/').ok_or(fix)?;
    let (lasts, every) = (some_time(lasts)?, time(every)?);
    if lasts >= every {
        return Err(format!("it has to be shorter than its period; {fix}"));
    }
    Ok((lasts, every))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        assert_eq!(chance("1%"), Ok(Chance::percent(1)));
        assert_eq!(chance("0.01"), Ok(Chance::percent(1)));
        assert_eq!(chance("0.25%"), Ok(Chance::parts(2_500)));
        assert_eq!(chance("0.0001%"), Ok(Chance::parts(1)));
        assert_eq!(chance("100%"), Ok(Chance::ALWAYS));
        assert_eq!(time("2ms"), Ok(Duration::from_millis(2)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(bytes("64k"), Ok(65_536));
        assert_eq!(rate("20Mbit"), Ok(20_000));
        assert_eq!(rate("0.5gbit"), Ok(500_000));
        assert_eq!(mtu("1500"), Ok(1500));
        let millis = Duration::from_millis;
        assert_eq!(reorder("2%"), Ok((Chance::percent(2), millis(1))));
        assert_eq!(reorder("2%:3ms"), Ok((Chance::percent(2), millis(3))));
        assert_eq!(partition("200ms/10s"), Ok((millis(200), millis(10_000))));
        let expected = Burst {
            enter: Chance::parts(5_000),
            leave: Chance::parts(125_000),
            loss: Chance::percent(90),
        };
        assert_eq!(burst("0.5%:8:90%"), Ok(expected));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_fix() {
        let faults = [
            chance("1ms").map(drop),
            chance("101%").map(drop),
            chance("").map(drop),
            chance("1.2.3").map(drop),
            time("5").map(drop),
            time("2h").map(drop),
            time("-1s").map(drop),
            some_time("0s").map(drop),
            bytes("0").map(drop),
            bytes("5x").map(drop),
            rate("20").map(drop),
            rate("1tbit").map(drop),
            mtu("100").map(drop),
            mtu("1000M").map(drop),
            reorder("1%:1").map(drop),
            reorder("1%:0s").map(drop),
            partition("1s").map(drop),
            partition("2s/1s").map(drop),
            partition("0s/1s").map(drop),
            burst("1%:0").map(drop),
            burst("1%:2:3%:4").map(drop),
        ];
        for fault in faults {
            let text = fault.expect_err("refused");
            assert!(text.contains("write") || text.contains("as in"), "{text}");
        }
    }
}
