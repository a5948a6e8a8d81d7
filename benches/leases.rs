//! How much does memory cost per message? Leasing and giving back, sharing, and dropping on another thread's behalf,
//! beside the system's allocator.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that goes wrong shall stop, and criterion's macros write undocumented items"
)]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway_buf::{Pools, PoolsConfig};

/// A small batch, a receive slot, a large batch, a large message.
const SIZES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 1 << 20];

fn lease(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("leases/lease");
    for size in SIZES {
        let pools = Pools::new(PoolsConfig::default());
        group.bench_function(BenchmarkId::new("give", size), |bencher| {
            bencher.iter(|| pools.give(pools.lease(black_box(size)).unwrap()));
        });
        group.bench_function(BenchmarkId::new("drop", size), |bencher| {
            bencher.iter(|| drop(black_box(pools.lease(black_box(size)))));
        });
        group.bench_function(BenchmarkId::new("allocator", size), |bencher| {
            bencher.iter(|| drop(black_box(Vec::<u8>::with_capacity(black_box(size)))));
        });
    }
    group.finish();
}

fn share(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("leases/share");
    let pools = Pools::new(PoolsConfig::default());
    group.bench_function("freeze and unfreeze", |bencher| {
        let lease = || pools.lease(4096).unwrap();
        let cycle = |lease: ringway_buf::Lease| lease.freeze().try_unfreeze().unwrap();
        bencher.iter_batched(lease, cycle, BatchSize::NumIterations(1));
    });
    let slice = pools.lease(4096).unwrap().freeze();
    group.bench_function("clone and drop", |bencher| {
        bencher.iter(|| drop(black_box(slice.clone())));
    });
    let mut buffer = pools.lease(64 << 10).unwrap().into_recv();
    buffer.filled(4096);
    group.bench_function("share a part of a receive buffer", |bencher| {
        bencher.iter(|| drop(black_box(buffer.share(16..80))));
    });
    group.finish();
}

criterion_group!(leases, lease, share);
criterion_main!(leases);
