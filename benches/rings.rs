//! How much does handing a value to another thread cost, apart from waking it? Push and pop on one thread (the
//! instructions), and a value bouncing between two threads (the cache lines).
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that goes wrong shall stop, and criterion's macros write undocumented items"
)]

use std::hint::{black_box, spin_loop};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway_buf::{mpsc, spsc};

/// Values per pass: what a busy turn takes.
const BATCH: u64 = 64;
const CAPACITY: usize = 256;
/// Empty looks before a bouncing thread lets others run, for machines with fewer cores than threads.
const PATIENCE: u32 = 1 << 12;

/// What an engine pays each turn for the chance of a command.
fn empty_look(criterion: &mut Criterion) {
    let (_sender, mut receiver) = mpsc::channel::<u64>(CAPACITY);
    criterion.bench_function("rings/empty look, mpsc", |bencher| {
        bencher.iter(|| receiver.pop());
    });
}

fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rings/one thread");
    group.throughput(Throughput::Elements(BATCH));
    let (mut sender, mut receiver) = spsc::channel(CAPACITY);
    group.bench_function("spsc", |bencher| {
        bencher.iter(|| {
            for value in 0..BATCH {
                assert!(sender.push(black_box(value)).is_ok());
            }
            while let Some(value) = receiver.pop() {
                black_box(value);
            }
        });
    });
    let (sender, mut receiver) = mpsc::channel(CAPACITY);
    group.bench_function("mpsc", |bencher| {
        bencher.iter(|| {
            for value in 0..BATCH {
                assert!(sender.push(black_box(value)).is_ok());
            }
            while let Some(value) = receiver.pop() {
                black_box(value);
            }
        });
    });
    let (sender, receiver) = std::sync::mpsc::sync_channel(CAPACITY);
    group.bench_function("std sync_channel", |bencher| {
        bencher.iter(|| {
            for value in 0..BATCH {
                assert!(sender.try_send(black_box(value)).is_ok());
            }
            while let Ok(value) = receiver.try_recv() {
                black_box(value);
            }
        });
    });
    group.finish();
}

/// Waits for the next value.
fn await_value(mut pop: impl FnMut() -> Option<u64>) -> u64 {
    let mut looks = 0;
    loop {
        if let Some(value) = pop() {
            return value;
        }
        looks += 1;
        if looks % PATIENCE == 0 {
            thread::yield_now()
        } else {
            spin_loop()
        }
    }
}

/// Time of `rounds` bounces between two threads; zero ends the other one.
fn bounce(
    rounds: u64,
    mut push: impl FnMut(u64),
    mut pop: impl FnMut() -> Option<u64>,
    mut far_push: impl FnMut(u64) + Send,
    mut far_pop: impl FnMut() -> Option<u64> + Send,
) -> Duration {
    thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                let value = await_value(&mut far_pop);
                if value == 0 {
                    return;
                }
                far_push(value);
            }
        });
        let start = Instant::now();
        for round in 1..=rounds {
            push(round);
            assert_eq!(await_value(&mut pop), round);
        }
        let elapsed = start.elapsed();
        push(0);
        elapsed
    })
}

fn two_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rings/bounce");
    group.bench_function("spsc", |bencher| {
        bencher.iter_custom(|rounds| {
            let (mut there, mut far) = spsc::channel(CAPACITY);
            let (mut back, mut near) = spsc::channel(CAPACITY);
            bounce(
                rounds,
                move |value| assert!(there.push(value).is_ok()),
                move || near.pop(),
                move |value| assert!(back.push(value).is_ok()),
                move || far.pop(),
            )
        });
    });
    group.bench_function("mpsc", |bencher| {
        bencher.iter_custom(|rounds| {
            let (there, mut far) = mpsc::channel(CAPACITY);
            let (back, mut near) = mpsc::channel(CAPACITY);
            bounce(
                rounds,
                move |value| assert!(there.push(value).is_ok()),
                move || near.pop(),
                move |value| assert!(back.push(value).is_ok()),
                move || far.pop(),
            )
        });
    });
    group.finish();
}

criterion_group!(rings, empty_look, one_thread, two_threads);
criterion_main!(rings);
