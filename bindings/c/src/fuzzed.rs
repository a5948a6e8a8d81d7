//! Random sequences of calls: the function of the fuzz target `c_api`, with its checked-in seeds and with made-up ones.

#[path = "../../../fuzz/src/c_api.rs"]
#[expect(
    clippy::undocumented_unsafe_blocks,
    clippy::cast_possible_truncation,
    reason = "a table of calls"
)]
mod c_api;

#[test]
fn no_sequence_of_calls_breaks_anything() {
    let _place = crate::registry::TABLE.lock().unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/c_api");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        c_api::play(&std::fs::read(&path).unwrap());
    }
    let count = std::env::var("RINGWAY_SEEDS").ok();
    for seed in 0..count.and_then(|it| it.parse().ok()).unwrap_or(100_u64) {
        // SplitMix64.
        let mut state = seed;
        let bytes: Vec<u8> = (0..4000)
            .map(|_| {
                state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                (mixed ^ (mixed >> 27)).to_le_bytes()[3]
            })
            .collect();
        c_api::play(&bytes);
    }
}
