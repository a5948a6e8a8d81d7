//! How much does framing cost per message, without any I/O? Reading frames out of a received buffer, and writing
//! headers into a batch; a copy of the same bytes stands beside both.
#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that goes wrong shall stop, and criterion's macros write undocumented items"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringway_buf::Instant;
use ringway_proto::{
    Header, Input, Role, Stream, StreamConfig, TRANSMIT_BYTES_MAX, padded, stream::frame,
};

/// Bytes of a batch of frames: one write's worth.
const BATCH_BYTES: usize = 64 * 1024;
const SIZES: [usize; 3] = [16, 64, 1024];

/// Both machines of a connection whose hellos are done.
fn opened(config: &StreamConfig) -> (Stream, Stream) {
    let now = Instant::ZERO;
    let mut client = Stream::new(config, Role::Client, 1, now);
    let mut server = Stream::new(config, Role::Server, 2, now);
    let mut wire = [0; TRANSMIT_BYTES_MAX];
    for _ in 0..2 {
        let len = client.poll_transmit(&mut wire);
        feed(&mut server, config, &wire[..len]);
        let len = server.poll_transmit(&mut wire);
        feed(&mut client, config, &wire[..len]);
    }
    assert!(client.may_send() && server.may_send());
    (client, server)
}

fn feed(stream: &mut Stream, config: &StreamConfig, bytes: &[u8]) {
    if !bytes.is_empty() {
        let input = stream.handle_bytes(config, bytes, Instant::ZERO);
        assert_eq!(input, Ok(Input::Consumed(bytes.len())));
    }
}

/// A batch of frames with bodies of `size` bytes.
fn batch(size: usize) -> Vec<u8> {
    let header = Header::message(u32::try_from(size).unwrap(), 0, 0);
    let count = BATCH_BYTES / header.frame_bytes();
    let mut bytes = vec![0; count * header.frame_bytes()];
    for room in bytes.chunks_mut(header.frame_bytes()) {
        frame(&header, room).unwrap().fill(7);
    }
    bytes
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing/parse");
    let config = StreamConfig::default();
    for size in SIZES {
        let bytes = batch(size);
        let frames = bytes.len() / (16 + padded(size));
        group.throughput(Throughput::Elements(frames as u64));
        let (_, mut server) = opened(&config);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let (mut rest, mut sum) = (&bytes[..], 0);
                while let Ok(Input::Message(header)) =
                    server.handle_bytes(&config, black_box(rest), Instant::ZERO)
                {
                    sum += header.length as usize;
                    rest = &rest[header.frame_bytes()..];
                    if rest.is_empty() {
                        break;
                    }
                }
                assert_eq!(sum, frames * size);
            });
        });
    }
    group.finish();
}

fn emit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing/emit");
    for size in SIZES {
        let mut bytes = batch(size);
        let body = vec![7; size];
        let len = u32::try_from(size).unwrap();
        let step = 16 + padded(size);
        group.throughput(Throughput::Elements((bytes.len() / step) as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                for (word, room) in (0_u64..).zip(bytes.chunks_mut(step)) {
                    let header = Header::message(len, 0, word);
                    frame(&header, room).unwrap()[..size].copy_from_slice(black_box(&body));
                }
            });
        });
    }
    group.finish();
}

fn copy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing/copy alone");
    for size in SIZES {
        let (mut bytes, source) = (batch(size), batch(size));
        group.throughput(Throughput::Elements(
            (bytes.len() / (16 + padded(size))) as u64,
        ));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| bytes.copy_from_slice(black_box(&source)));
        });
    }
    group.finish();
}

criterion_group!(framing, parse, emit, copy);
criterion_main!(framing);
