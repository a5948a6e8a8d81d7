//! `Handle`: commands from other threads, and what becomes of them when nobody takes them.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::sync::mpsc::channel;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use ringway::{
    CloseCode, CloseReason, Config, ConnectionId, Context, Counter, DriverChoice, Engine, Full,
    Handler, Idle, Limits, LinkError, LinksOnly, ListenOptions, Message, Peer, SendError, block_on,
};

use crate::support::{Host, Linked, Task};

crate::on_kernel_drivers![
    posted_work_runs_on_the_engines_thread,
    a_parked_engine_never_misses_a_command,
    each_wake_ends_a_wait,
    a_wait_ends_at_its_limit,
    a_full_command_queue_hands_the_work_back,
    a_message_for_a_handlers_connection_arrives,
    a_refused_message_comes_back,
    commands_left_in_the_queue_are_answered_when_the_engine_goes,
    stop_ends_the_run,
    drain_ends_the_run_after_the_last_connection,
    counters_are_read_from_other_threads,
];

fn engine(choice: DriverChoice, limits: Limits) -> Engine {
    Config::default()
        .driver(choice)
        .limits(limits)
        .seed(3)
        .build()
        .unwrap()
}

fn posted_work_runs_on_the_engines_thread(choice: DriverChoice) {
    let (id_in, id) = channel();
    let host = Host::with(choice, Limits::default(), move || {
        id_in.send(thread::current().id()).unwrap();
        LinksOnly
    });
    let engines_thread = id.recv().unwrap();
    let (seen_in, seen) = channel();
    host.handle
        .post(move |_| seen_in.send(thread::current().id()).unwrap())
        .unwrap();
    assert_eq!(seen.recv().unwrap(), engines_thread);
}

/// The engine parks after each command, so that each next one races with its way to sleep.
fn a_parked_engine_never_misses_a_command(choice: DriverChoice) {
    let (handle_in, handle) = channel();
    let thread = thread::spawn(move || {
        let mut engine = Config::default()
            .driver(choice)
            .idle(Idle::Park)
            .build()
            .unwrap();
        handle_in.send(engine.handle()).unwrap();
        engine.run(&mut LinksOnly);
    });
    let handle = handle.recv().unwrap();
    for number in 0..3000 {
        let (seen_in, seen) = channel();
        handle.post(move |_| seen_in.send(number).unwrap()).unwrap();
        assert_eq!(seen.recv().unwrap(), number);
    }
    handle.stop().unwrap();
    thread.join().unwrap();
}

fn each_wake_ends_a_wait(choice: DriverChoice) {
    let (handle_in, handle) = channel();
    let (woken_in, woken) = channel();
    let thread = thread::spawn(move || {
        let mut engine = engine(choice, Limits::default());
        handle_in.send(engine.handle()).unwrap();
        for _ in 0..200 {
            engine.wait(&mut LinksOnly, None);
            woken_in.send(()).unwrap();
        }
    });
    let handle = handle.recv().unwrap();
    for _ in 0..200 {
        handle.wake();
        woken.recv().unwrap();
    }
    thread.join().unwrap();
}

/// Also after traffic, when the adaptive policy spins first and then sleeps.
fn a_wait_ends_at_its_limit(choice: DriverChoice) {
    let mut engine = engine(choice, Limits::default());
    for _ in 0..20 {
        engine.handle().wake();
        assert!(engine.wait(&mut LinksOnly, None) > 0);
        assert_eq!(
            engine.wait(&mut LinksOnly, Some(Duration::from_millis(1))),
            0
        );
    }
}

fn a_full_command_queue_hands_the_work_back(choice: DriverChoice) {
    let mut engine = engine(
        choice,
        Limits {
            commands_max: 2,
            ..Limits::default()
        },
    );
    let handle = engine.handle();
    let (ran_in, ran) = channel();
    let work = |name: &'static str| {
        let ran = ran_in.clone();
        move |_: &mut Context<'_>| ran.send(name).unwrap()
    };
    handle.post(work("first")).unwrap();
    handle.post(work("second")).unwrap();
    let Full { message, error } = handle.post(work("third")).unwrap_err();
    assert_eq!(error, SendError::Full);
    let mut waiting = Task::new(handle.listen("tcp://127.0.0.1:0", ListenOptions::default()));
    assert!(waiting.poll().is_pending(), "it waits for room");
    engine.turn(&mut LinksOnly);
    assert!(waiting.wakes() > 0, "room was made");
    assert!(waiting.poll().is_pending());
    message(&mut engine.context());
    engine.turn(&mut LinksOnly);
    assert!(matches!(waiting.poll(), Poll::Ready(Ok(_))));
    assert_eq!(
        ran.try_iter().collect::<Vec<_>>(),
        ["first", "second", "third"]
    );
    drop(engine);
    let refused = handle.post(work("fourth")).map_err(|full| full.error);
    assert_eq!(refused.unwrap_err(), SendError::Closed);
    assert!(handle.is_stopped());
}

/// Tells when its connection opened.
struct Opener(std::sync::mpsc::Sender<ConnectionId>);

impl Handler for Opener {
    fn message(&mut self, _cx: &mut Context<'_>, _message: Message<'_>) {}

    fn opened(&mut self, _cx: &mut Context<'_>, connection: ConnectionId, _peer: &Peer) {
        self.0.send(connection).unwrap();
    }
}

fn a_message_for_a_handlers_connection_arrives(choice: DriverChoice) {
    let server = Host::links(choice);
    let (mut acceptor, address) = server.listen();
    let (opened_in, opened) = channel();
    let client = Host::with(choice, Limits::default(), || Opener(opened_in));
    client
        .handle
        .post(move |cx| assert!(cx.connect(&address).is_ok()))
        .unwrap();
    let connection = opened.recv().unwrap();
    let mut link = acceptor.accept_wait().unwrap();
    client
        .handle
        .send_wait(connection, b"from a thread".to_vec())
        .unwrap();
    block_on(client.handle.send(connection, b"from a future".to_vec())).unwrap();
    assert_eq!(&*link.recv_wait().unwrap().body, b"from a thread");
    assert_eq!(&*link.recv_wait().unwrap().body, b"from a future");
}

fn a_refused_message_comes_back(choice: DriverChoice) {
    let server = Host::links(choice);
    let (_acceptor, address) = server.listen();
    let (opened_in, opened) = channel();
    let limits = Limits {
        queue_bytes_max: 1000,
        ..Limits::default()
    };
    let client = Host::with(choice, limits, || Opener(opened_in));
    client
        .handle
        .post(move |cx| assert!(cx.connect(&address).is_ok()))
        .unwrap();
    let connection = opened.recv().unwrap();
    // Nobody takes the link: its inbox fills, then the buffers of the kernel, then this queue.
    let mut sent = 0_u32;
    let refused = loop {
        match client.handle.send_wait(connection, vec![7; 60_000]) {
            Ok(()) => sent += 1,
            Err(refused) => break refused,
        }
        assert!(sent < 100_000, "the queue is bounded");
    };
    assert_eq!(
        (refused.error, refused.message.len()),
        (SendError::Full, 60_000)
    );
    client
        .handle
        .post(move |cx| cx.close(connection, CloseCode::Normal))
        .unwrap();
    let closed = client
        .handle
        .send_wait(connection, vec![9; 10])
        .unwrap_err();
    assert_eq!(
        (closed.error, closed.message),
        (SendError::Closed, vec![9; 10])
    );
}

fn commands_left_in_the_queue_are_answered_when_the_engine_goes(choice: DriverChoice) {
    let engine = engine(
        choice,
        Limits {
            commands_max: 3,
            ..Limits::default()
        },
    );
    let handle = engine.handle();
    let stale = ConnectionId::from_bits(1);
    let mut send = Task::new(handle.send(stale, b"precious".to_vec()));
    let mut connect = Task::new(handle.connect("tcp://127.0.0.1:1"));
    let mut listen = Task::new(handle.listen("tcp://127.0.0.1:0", ListenOptions::default()));
    let mut beyond = Task::new(handle.send(stale, b"no room".to_vec()));
    assert!(send.poll().is_pending() && connect.poll().is_pending());
    assert!(listen.poll().is_pending() && beyond.poll().is_pending());
    drop(engine);
    for wakes in [
        send.wakes(),
        connect.wakes(),
        listen.wakes(),
        beyond.wakes(),
    ] {
        assert!(wakes > 0, "everybody who waits is told");
    }
    let Poll::Ready(Err(Full { message, error })) = send.poll() else {
        unreachable!("answered")
    };
    assert_eq!(
        (message.as_slice(), error),
        (&b"precious"[..], SendError::Closed)
    );
    let Poll::Ready(Err(Full { message, error })) = beyond.poll() else {
        unreachable!("answered")
    };
    assert_eq!(
        (message.as_slice(), error),
        (&b"no room"[..], SendError::Closed)
    );
    assert!(matches!(
        connect.poll(),
        Poll::Ready(Err(LinkError::Stopped))
    ));
    assert!(matches!(
        listen.poll(),
        Poll::Ready(Err(LinkError::Stopped))
    ));
    assert!(handle.stop().is_err() && handle.drain().is_err());
}

fn stop_ends_the_run(choice: DriverChoice) {
    let linked = Linked::new(choice);
    linked.client.stop();
    linked.server.stop();
    // A handler can do it too.
    let host = Host::links(choice);
    host.handle.post(|cx| cx.stop()).unwrap();
    host.join();
}

fn drain_ends_the_run_after_the_last_connection(choice: DriverChoice) {
    let idle = Host::links(choice);
    idle.handle.drain().unwrap();
    idle.join();

    let Linked {
        mut near,
        mut far,
        client,
        server,
    } = Linked::new(choice);
    far.send_wait(b"last words".to_vec()).unwrap();
    server.handle.drain().unwrap();
    assert_eq!(&*near.recv_wait().unwrap().body, b"last words");
    for end in [&mut near, &mut far] {
        let LinkError::Closed(closed) = end.recv_wait().unwrap_err() else {
            unreachable!()
        };
        assert!(matches!(closed.reason, CloseReason::Drained), "{closed}");
    }
    server.join();
    drop(client);
}

fn counters_are_read_from_other_threads(choice: DriverChoice) {
    let Linked {
        near,
        mut far,
        client,
        server,
    } = Linked::new(choice);
    for _ in 0..10 {
        near.send_wait(vec![1; 100]).unwrap();
        far.recv_wait().unwrap();
    }
    let (sent, received) = (client.handle.counters(), server.handle.counters());
    // A link gets its message before the turn ends that publishes the figures.
    while received.value(Counter::MessagesIn) < 10 || sent.value(Counter::MessagesOut) < 10 {
        thread::yield_now();
    }
    assert_eq!(received.value(Counter::BytesIn), 1000);
    assert_eq!(
        (
            received.value(Counter::Accepted),
            received.value(Counter::Opened)
        ),
        (1, 1)
    );
    assert_eq!(
        (
            sent.value(Counter::Connections),
            sent.value(Counter::Violations)
        ),
        (1, 0)
    );
    assert!(received.value(Counter::Syscalls) > 0 && received.value(Counter::Turns) > 0);
    assert_eq!(received.iter().count(), Counter::ALL.len());
    let figure = |name| received.iter().find(|(known, _)| *known == name).unwrap().1;
    assert_eq!(figure("messages_in"), 10);
    drop((near, far, client, server));
    assert_eq!(sent.value(Counter::Opened), 1, "they outlive the engine");
}
