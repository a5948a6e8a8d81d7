//! Compression by LZ4 from a client's call to the handler and back, and a client that sends a bomb.
#![cfg(feature = "lz4")]
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod hosted;

use std::rc::Rc;

use hosted::{ECHO, Hosted, METHODS};
use ringway_engine::{Config, DriverChoice};
use ringway_rpc::{
    CallConfig, CallOptions, Channel, ClientEngine, Clients, Code, Compressor, Compressors,
    Corrupt, Lz4, Raw, Server, Status,
};

/// A server and a client whose every message is packed if that helps.
fn pair(
    choice: DriverChoice,
    algorithms: impl FnOnce() -> Compressors + Send + 'static,
) -> (Hosted, Channel) {
    let config = CallConfig {
        compress: true,
        ..CallConfig::default()
    };
    let limits = ringway_rpc::ServerLimits {
        call: config,
        ..ringway_rpc::ServerLimits::default()
    };
    let server = Server::builder()
        .limits(limits)
        .compressors(Lz4::compressors);
    let host = Hosted::at(choice, "tcp://127.0.0.1:0", server);
    let engine = ClientEngine::start_with(
        move || Config::default().driver(choice),
        move || Clients::new(config, algorithms()),
    );
    let channel = engine.unwrap().channel(&host.address).unwrap();
    (host, channel)
}

fn echo(channel: &Channel, body: &[u8]) -> Result<Vec<u8>, Status> {
    let call = channel.call::<Raw, [u8], [u8]>(METHODS, ECHO, body, &CallOptions::default());
    Ok(call.wait()?.bytes().to_vec())
}

fn messages_arrive_as_they_were(choice: DriverChoice) {
    let (_host, channel) = pair(choice, Lz4::compressors);
    let text: Vec<u8> = b"all work and no play ".repeat(100_000);
    let noise: Vec<u8> = (0_u32..500_000)
        .flat_map(|at| at.wrapping_mul(0x9E37_79B9).to_le_bytes())
        .collect();
    for body in [&text[..], &noise, &text[..2000], &noise[..2000], b"x", b""] {
        assert!(echo(&channel, body).unwrap() == body);
    }
}

/// Says LZ4, and sends bytes that unpack to ten times as much as they claim.
struct Bomb;

impl Compressor for Bomb {
    fn algorithm(&self) -> u8 {
        0
    }

    fn compress(&self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        let bomb = vec![0; plain.len() * 10];
        let mut packed = vec![0; Lz4.room_bytes(bomb.len())];
        let len = Lz4.compress(&bomb, &mut packed)?;
        out.get_mut(..len)?.copy_from_slice(&packed[..len]);
        Some(len)
    }

    fn decompress(&self, packed: &[u8], out: &mut [u8]) -> Result<usize, Corrupt> {
        Lz4.decompress(packed, out)
    }
}

fn a_bomb_ends_its_call_and_nothing_else(choice: DriverChoice) {
    let (_host, channel) = pair(choice, || Compressors::new(vec![Rc::new(Bomb)]));
    for bytes in [2000, 1_000_000, 20_000_000] {
        let status = echo(&channel, &vec![7; bytes]).unwrap_err();
        assert_eq!((status.code, status.not_started), (Code::Internal, true));
        // Short messages are not packed.
        assert_eq!(echo(&channel, b"alive").unwrap(), b"alive");
    }
}

on_kernel_drivers!(
    messages_arrive_as_they_were,
    a_bomb_ends_its_call_and_nothing_else,
);
