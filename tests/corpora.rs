//! The functions of the fuzz targets of reliable UDP, with the checked-in seeds and with bytes made of seeds.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's helper fails the test, and says which input it was"
)]

#[path = "../fuzz/src/rudp.rs"]
mod rudp;
mod seeds;

use std::fs;
use std::path::Path;

use seeds::Random;

/// Made-up inputs per target; `RINGWAY_SEEDS` sets another number.
const INPUTS: u64 = 200;

fn play(target: &str, play: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        play(&fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed > 0, "{} is empty", folder.display());
    let count = std::env::var("RINGWAY_SEEDS").ok();
    let count = count.and_then(|it| it.parse().ok()).unwrap_or(INPUTS);
    for seed in 0..count {
        println!("{target}: seed {seed}");
        let mut random = Random(seed);
        let most = 1 << random.below(12);
        let len = random.below(1 + most);
        let bytes: Vec<u8> = (0..len).map(|_| random.next().to_le_bytes()[3]).collect();
        play(&bytes);
    }
}

#[test]
fn packets_from_strangers_cost_nothing_but_a_shorter_answer() {
    play("rudp_packet", rudp::packet);
}

#[test]
fn whatever_comes_at_a_server_breaks_at_most_one_session() {
    play("rudp_server_recv", rudp::server_recv);
}

#[test]
fn whatever_comes_at_a_client_breaks_at_most_one_session() {
    play("rudp_client_recv", rudp::client_recv);
}

#[test]
fn a_mangling_way_breaks_no_promise() {
    play("rudp_pair", rudp::pair);
}
