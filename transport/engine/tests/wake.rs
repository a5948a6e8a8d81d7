//! A sleeping engine hears every command of other threads.

use std::mem::ManuallyDrop;
use std::sync::mpsc;
use std::time::Duration;

use ringway_engine::{Config, Idle, LinksOnly, Shards, ShardsConfig};

/// How long a command may stay unheard before the test calls it lost: a hang is what it detects, not a time.
const LOST: Duration = Duration::from_secs(60);

#[test]
fn a_sleeping_engine_hears_every_command() {
    for idle in [Idle::Park, Idle::Adaptive] {
        let config = move |_| Config::default().idle(idle);
        let shards = Shards::start(&ShardsConfig::default(), config, |_| LinksOnly).unwrap();
        // If a command is lost, dropping the shards would wait for a deaf engine and hide the message.
        let shards = ManuallyDrop::new(shards);
        let handle = &shards.handles()[0];
        let (heard_in, heard) = mpsc::channel();
        for number in 0..500 {
            let heard_in = heard_in.clone();
            let posted = handle.post(move |_| heard_in.send(number).unwrap());
            assert!(posted.is_ok(), "the queue has room for one");
            assert_eq!(heard.recv_timeout(LOST), Ok(number), "{idle:?}");
        }
        drop(ManuallyDrop::into_inner(shards));
    }
}
