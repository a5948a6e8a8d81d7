//! `Link` and `Acceptor`: whole connections owned by other threads and tasks.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test's helper fails the test, and its numbers are small"
)]

use std::sync::mpsc::channel;
use std::task::Poll;
use std::thread;

use ringway::{
    CloseCode, CloseReason, Config, Counter, Delivery, DriverChoice, Full, Instant, Limits, Link,
    LinkError, LinksOnly, ListenOptions, SendError, block_on,
};

use crate::support::{Host, Linked, Task, number, numbered};

crate::on_kernel_drivers![
    two_threads_play_ping_pong_in_order,
    labels_and_the_peer_are_known,
    messages_of_a_link_choose_how_they_travel,
    async_faces_run_under_a_current_thread_runtime,
    async_faces_run_under_a_multi_thread_runtime,
    async_faces_need_no_runtime,
    an_owner_who_does_not_read_slows_its_peer_and_loses_nothing,
    a_full_outbound_queue_hands_back_and_send_waits,
    a_message_beyond_the_peers_limit_comes_back,
    what_arrived_is_read_before_the_end_is_reported,
    dropping_a_link_sends_what_is_queued_and_closes,
    a_link_with_a_full_inbox_closes_when_dropped,
    a_drain_sends_what_links_have_queued,
    nobody_hangs_when_the_engine_goes,
    a_drained_engine_tells_its_acceptors,
    an_acceptor_takes_links_and_closes_its_listener,
    connecting_fails_with_the_reason,
    many_links_come_and_go_at_the_limit_of_connections,
    links_beyond_what_an_acceptor_holds_are_closed,
];

/// The reason of a link that came to its end.
fn end(error: LinkError) -> CloseReason {
    match error {
        LinkError::Closed(closed) => std::sync::Arc::try_unwrap(closed).map_or_else(
            |shared| match shared.reason {
                CloseReason::Peer(code) => CloseReason::Peer(code),
                CloseReason::Local(code) => CloseReason::Local(code),
                CloseReason::Ended { unread_bytes } => CloseReason::Ended { unread_bytes },
                _ => unreachable!("{shared}"),
            },
            |closed| closed.reason,
        ),
        other => unreachable!("{other}"),
    }
}

fn two_threads_play_ping_pong_in_order(choice: DriverChoice) {
    let Linked {
        mut near,
        mut far,
        client: _client,
        server: _server,
    } = Linked::new(choice);
    let echo = thread::spawn(move || {
        for expected in 0..10_000 {
            let received = far.recv_wait().unwrap();
            assert_eq!(number(&received.body), expected);
            far.send_wait(received.body.to_vec()).unwrap();
        }
        far
    });
    for expected in 0..10_000 {
        near.send_wait(numbered(expected, 64)).unwrap();
        assert_eq!(number(&near.recv_wait().unwrap().body), expected);
    }
    echo.join().unwrap();
}

fn labels_and_the_peer_are_known(choice: DriverChoice) {
    let Linked {
        near,
        mut far,
        client: _client,
        server: _server,
    } = Linked::new(choice);
    near.try_send_labelled(b"labelled".to_vec(), 17, 1 << 40)
        .unwrap();
    let received = far.recv_wait().unwrap();
    assert_eq!((received.tag, received.word), (17, 1 << 40));
    assert_eq!((received.kind, received.flags), (ringway::kind::MESSAGE, 0));
    let (to, from) = (near.peer().unwrap(), far.peer().unwrap());
    assert!(to.message_bytes_max > 0 && to.epoch != 0);
    assert!(to.listener.is_none() && from.listener.is_some());
    assert!(
        matches!(to.address, Some(ringway::Address::Tcp(_))),
        "{to:?}"
    );
    assert!(
        matches!(from.address, Some(ringway::Address::Tcp(_))),
        "{from:?}"
    );
    assert!(near.try_send(Vec::new()).is_ok() && far.recv_wait().unwrap().body.is_empty());
}

fn messages_of_a_link_choose_how_they_travel(choice: DriverChoice) {
    let Linked {
        near,
        mut far,
        client,
        server: _server,
    } = Linked::over_rudp(choice);
    let late = Delivery::Unreliable {
        deadline: Instant::ZERO,
    };
    for (tag, delivery) in (1..).zip([late, Delivery::Unordered, late, Delivery::Ordered]) {
        let sent = near.try_send_with(numbered(tag.into(), 64), tag, 1 << 40, delivery);
        sent.unwrap();
    }
    let mut got = [far.recv_wait().unwrap(), far.recv_wait().unwrap()];
    got.sort_by_key(|received| received.tag);
    for (received, tag) in got.iter().zip([2, 4]) {
        assert_eq!((received.tag, received.word), (tag, 1 << 40));
        assert_eq!(number(&received.body), u64::from(tag));
    }
    while client.handle.counters().value(Counter::Expired) < 2 {
        thread::yield_now();
    }
}

/// Echo and client as two tasks, with `send` and `recv` only.
async fn converse(choice: DriverChoice) {
    let server = Host::links(choice);
    let client = Host::links(choice);
    let options = ListenOptions::default();
    let mut acceptor = server
        .handle
        .listen("tcp://127.0.0.1:0", options)
        .await
        .unwrap();
    let address = acceptor.local_address().unwrap().to_string();
    let echo = async move {
        let mut link = acceptor.accept().await.unwrap();
        while let Ok(received) = link.recv().await {
            link.send(received.body.to_vec()).await.unwrap();
        }
    };
    let client = async move {
        let mut link = client.handle.connect(&address).await.unwrap();
        for expected in 0..500 {
            link.send(numbered(expected, 64)).await.unwrap();
            assert_eq!(number(&link.recv().await.unwrap().body), expected);
        }
        drop(link);
        client
    };
    both(echo, client).await;
}

/// Polls two futures to their ends, in one task.
async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    let (mut one, mut two) = (None, None);
    std::future::poll_fn(move |cx| {
        if one.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(cx)
        {
            one = Some(output);
        }
        if two.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(cx)
        {
            two = Some(output);
        }
        match (one.take(), two.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (one, two) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}

fn async_faces_run_under_a_current_thread_runtime(choice: DriverChoice) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(converse(choice));
}

fn async_faces_run_under_a_multi_thread_runtime(choice: DriverChoice) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(converse(choice))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

fn async_faces_need_no_runtime(choice: DriverChoice) {
    block_on(converse(choice));
}

fn an_owner_who_does_not_read_slows_its_peer_and_loses_nothing(choice: DriverChoice) {
    const COUNT: u64 = 1000;
    const BYTES: usize = 64 << 10;
    const INBOX: u64 = 8;
    const BUDGET: usize = 16 << 20;
    let client = Limits {
        queue_bytes_max: 256 << 10,
        ..Limits::default()
    };
    let server = Limits {
        link_messages_max: INBOX as usize,
        budget_bytes: BUDGET,
        ..Limits::default()
    };
    let Linked {
        near,
        mut far,
        client,
        server,
    } = Linked::with(choice, client, server);
    let sender = thread::spawn(move || {
        for number in 0..COUNT {
            near.send_wait(numbered(number, BYTES)).unwrap();
        }
        near
    });
    let (sent, received) = (client.handle.counters(), server.handle.counters());
    // The buffers of the kernel hold some megabytes; behind them the client's queue fills.
    while sent.value(Counter::Full) == 0 || received.value(Counter::MessagesIn) < INBOX {
        thread::yield_now();
    }
    assert_eq!(
        received.value(Counter::MessagesIn),
        INBOX,
        "the inbox is the bound"
    );
    let held = received.value(Counter::BudgetUsed) as usize;
    // A message pins its own place and the slots that its beginning came in; io_uring's receive slots, which a
    // burst may double, are an eighth of the budget at most.
    assert!(
        held <= INBOX as usize * 4 * BYTES + BUDGET / 8,
        "{held} bytes for a slow owner"
    );
    for expected in 0..COUNT {
        let body = far.recv_wait().unwrap().body;
        assert_eq!((number(&body), body.len()), (expected, BYTES));
    }
    sender.join().unwrap();
}

/// Keeps an engine's thread busy until the returned end is dropped.
fn hold(host: &Host) -> std::sync::mpsc::Sender<()> {
    let (release, held) = channel::<()>();
    let (reached_in, reached) = channel();
    host.handle
        .post(move |_| {
            reached_in.send(()).unwrap();
            held.recv().unwrap_err();
        })
        .unwrap();
    reached.recv().unwrap();
    release
}

/// Queues numbered messages until the queue is full; returns how many fitted.
fn fill(link: &Link) -> u64 {
    for next in 0.. {
        if let Err(Full { message, error }) = link.try_send(numbered(next, 8)) {
            assert_eq!((number(&message), error), (next, SendError::Full));
            return next;
        }
    }
    unreachable!("the queue is bounded")
}

fn a_full_outbound_queue_hands_back_and_send_waits(choice: DriverChoice) {
    let Linked {
        near,
        mut far,
        client,
        server: _server,
    } = Linked::new(choice);
    let release = hold(&client);
    let fitted = fill(&near);
    let mut waiting = Task::new(near.send(numbered(fitted, 8)));
    assert!(waiting.poll().is_pending());
    drop(release);
    for expected in 0..fitted {
        assert_eq!(number(&far.recv_wait().unwrap().body), expected);
    }
    while waiting.wakes() == 0 {
        thread::yield_now();
    }
    assert!(matches!(waiting.poll(), Poll::Ready(Ok(()))));
    assert_eq!(number(&far.recv_wait().unwrap().body), fitted);
}

fn a_message_beyond_the_peers_limit_comes_back(choice: DriverChoice) {
    let Linked {
        near,
        far,
        client: _client,
        server: _server,
    } = Linked::new(choice);
    let bytes_max = near.peer().unwrap().message_bytes_max as usize;
    let Full { message, error } = near.send_wait(vec![0; bytes_max + 1]).unwrap_err();
    assert_eq!(
        error,
        SendError::TooLong {
            bytes: bytes_max + 1,
            bytes_max
        }
    );
    assert_eq!(message.len(), bytes_max + 1);
    drop(far);
}

fn what_arrived_is_read_before_the_end_is_reported(choice: DriverChoice) {
    let Linked {
        mut near,
        far,
        client,
        server: _server,
    } = Linked::new(choice);
    for number in 0..10 {
        far.send_wait(numbered(number, 3000)).unwrap();
    }
    drop(far);
    let counters = client.handle.counters();
    while counters.value(Counter::Closed) == 0 {
        thread::yield_now();
    }
    for expected in 0..10 {
        assert_eq!(number(&near.recv_wait().unwrap().body), expected);
    }
    assert!(matches!(
        end(near.recv_wait().unwrap_err()),
        CloseReason::Peer(CloseCode::Normal)
    ));
    assert!(matches!(
        near.closed().unwrap().reason,
        CloseReason::Peer(CloseCode::Normal)
    ));
    assert!(near.recv_wait().is_err(), "the end stays the end");
    assert!(near.try_recv().is_none());
    let Full { message, error } = near.send_wait(b"late".to_vec()).unwrap_err();
    assert_eq!(
        (message.as_slice(), error),
        (&b"late"[..], SendError::Closed)
    );
}

fn dropping_a_link_sends_what_is_queued_and_closes(choice: DriverChoice) {
    let Linked {
        near,
        mut far,
        client,
        server,
    } = Linked::new(choice);
    let release = hold(&client);
    let fitted = fill(&near);
    drop(near);
    drop(release);
    for expected in 0..fitted {
        assert_eq!(number(&far.recv_wait().unwrap().body), expected);
    }
    assert!(matches!(
        end(far.recv_wait().unwrap_err()),
        CloseReason::Peer(CloseCode::Normal)
    ));
    for host in [&client, &server] {
        while host.handle.counters().value(Counter::Connections) > 0 {
            thread::yield_now();
        }
    }
}

fn a_link_with_a_full_inbox_closes_when_dropped(choice: DriverChoice) {
    let server = Limits {
        link_messages_max: 4,
        ..Limits::default()
    };
    let Linked {
        mut near,
        far,
        client: _client,
        server,
    } = Linked::with(choice, Limits::default(), server);
    for number in 0..100 {
        near.send_wait(numbered(number, 8)).unwrap();
    }
    let counters = server.handle.counters();
    while counters.value(Counter::MessagesIn) < 4 {
        thread::yield_now();
    }
    drop(far);
    assert!(matches!(
        end(near.recv_wait().unwrap_err()),
        CloseReason::Peer(CloseCode::Normal)
    ));
}

/// More than the connection's queue takes at once waits in the link; a drain is no reason to lose it.
fn a_drain_sends_what_links_have_queued(choice: DriverChoice) {
    let client = Limits {
        queue_bytes_max: 64 << 10,
        ..Limits::default()
    };
    for peer_drains in [false, true] {
        let Linked {
            near,
            mut far,
            client,
            server,
        } = Linked::with(choice, client, Limits::default());
        let release = hold(&client);
        for number in 0..200 {
            near.try_send(numbered(number, 10_000)).unwrap();
        }
        let draining = if peer_drains { &server } else { &client };
        draining.handle.drain().unwrap();
        drop(release);
        for expected in 0..200 {
            assert_eq!(number(&far.recv_wait().unwrap().body), expected);
        }
        let LinkError::Closed(closed) = far.recv_wait().unwrap_err() else {
            unreachable!()
        };
        assert!(matches!(closed.reason, CloseReason::Drained), "{closed}");
    }
}

/// The engine is turned by hand, so that everybody provably waits when it goes.
fn nobody_hangs_when_the_engine_goes(choice: DriverChoice) {
    let far_side = Host::links(choice);
    let (mut far_acceptor, address) = far_side.listen();
    let mut engine = Config::default().driver(choice).build().unwrap();
    let handle = engine.handle();
    let mut links = Vec::new();
    for _ in 0..2 {
        let mut connecting = Task::new(handle.connect(&address));
        let link = loop {
            match connecting.poll() {
                Poll::Ready(link) => break link.unwrap(),
                Poll::Pending => engine.turn(&mut LinksOnly),
            };
        };
        links.push((link, far_acceptor.accept_wait().unwrap()));
    }
    let mut listening = Task::new(handle.listen("tcp://127.0.0.1:0", ListenOptions::default()));
    assert!(listening.poll().is_pending());
    engine.turn(&mut LinksOnly);
    let Poll::Ready(Ok(mut acceptor)) = listening.poll() else {
        unreachable!("it listens")
    };

    let (mut reader, mut far_reader) = links.pop().unwrap();
    let (writer, far_writer) = links.pop().unwrap();
    fill(&writer);
    let mut reading = Task::new(reader.recv());
    let mut writing = Task::new(writer.send(b"precious".to_vec()));
    let mut accepting = Task::new(acceptor.accept());
    let mut connecting = Task::new(handle.connect(&address));
    assert!(reading.poll().is_pending() && writing.poll().is_pending());
    assert!(accepting.poll().is_pending() && connecting.poll().is_pending());
    engine.turn(&mut LinksOnly);
    while writing.wakes() > 0 && writing.poll().is_ready() {
        // The turn made room: fill it again.
        fill(&writer);
        writing = Task::new(writer.send(b"precious".to_vec()));
    }
    assert!(writing.poll().is_pending());
    let before = writing.wakes();
    drop(engine);

    assert!(reading.wakes() > 0 && accepting.wakes() > 0 && connecting.wakes() > 0);
    assert!(writing.wakes() > before);
    let Poll::Ready(Err(LinkError::Closed(closed))) = reading.poll() else {
        unreachable!()
    };
    assert!(
        matches!(closed.reason, CloseReason::Local(CloseCode::Normal)),
        "{closed}"
    );
    let Poll::Ready(Err(Full { message, error })) = writing.poll() else {
        unreachable!()
    };
    assert_eq!(
        (message.as_slice(), error),
        (&b"precious"[..], SendError::Closed)
    );
    assert!(matches!(
        accepting.poll(),
        Poll::Ready(Err(LinkError::Stopped))
    ));
    assert!(matches!(connecting.poll(), Poll::Ready(Err(_))));
    assert!(far_reader.recv_wait().is_err(), "the peer sees the end too");
    drop(far_writer);
}

/// The engine lives on: it is the listener that is gone.
fn a_drained_engine_tells_its_acceptors(choice: DriverChoice) {
    let mut engine = Config::default().driver(choice).build().unwrap();
    let handle = engine.handle();
    let mut listening = Task::new(handle.listen("tcp://127.0.0.1:0", ListenOptions::default()));
    assert!(listening.poll().is_pending());
    engine.turn(&mut LinksOnly);
    let Poll::Ready(Ok(mut acceptor)) = listening.poll() else {
        unreachable!("it listens")
    };
    let address = acceptor.local_address().unwrap().to_string();
    let mut waiting = Task::new(acceptor.accept());
    assert!(waiting.poll().is_pending());
    engine.drain();
    engine.run(&mut LinksOnly);
    assert!(waiting.wakes() > 0);
    assert!(matches!(
        waiting.poll(),
        Poll::Ready(Err(LinkError::Stopped))
    ));
    let client = Host::links(choice);
    assert!(client.handle.connect_wait(&address).is_err());
}

fn an_acceptor_takes_links_and_closes_its_listener(choice: DriverChoice) {
    let (server, client) = (Host::links(choice), Host::links(choice));
    let (mut acceptor, address) = server.listen();
    let mut kept = Vec::new();
    for number in 0..5 {
        let near = client.handle.connect_wait(&address).unwrap();
        near.send_wait(numbered(number, 8)).unwrap();
        let mut far = acceptor.accept_wait().unwrap();
        assert_eq!(
            crate::support::number(&far.recv_wait().unwrap().body),
            number
        );
        kept.push((near, far));
    }
    drop(acceptor);
    // The engine closes it in its own time; what the kernel accepts until then is closed too.
    while let Ok(mut link) = client.handle.connect_wait(&address) {
        assert!(link.recv_wait().is_err(), "nobody serves it");
    }
    for (near, far) in &mut kept {
        near.send_wait(b"still open".to_vec()).unwrap();
        assert_eq!(&*far.recv_wait().unwrap().body, b"still open");
    }
}

fn connecting_fails_with_the_reason(choice: DriverChoice) {
    let host = Host::links(choice);
    let (acceptor, address) = host.listen();
    let listened = host
        .handle
        .listen_wait(&address, ListenOptions::default())
        .map(drop);
    let text = listened.unwrap_err().to_string();
    assert!(text.contains("another process listens there"), "{text}");
    drop(acceptor);
    // Until the listener is closed a connection may still be made, and then be reset.
    let refused = loop {
        if let Err(LinkError::Closed(closed)) = host.handle.connect_wait(&address)
            && let CloseReason::ConnectFailed(error) = &closed.reason
            && error.kind() == std::io::ErrorKind::ConnectionRefused
        {
            break closed.to_string();
        }
    };
    assert!(refused.contains("is the server running"), "{refused}");
    for address in ["carrier-pigeon://here", "tcp://127.0.0.1", "unix://"] {
        let refused = host.handle.connect_wait(address).map(drop).unwrap_err();
        assert!(
            matches!(refused, LinkError::Open(_)),
            "{address}: {refused}"
        );
    }
}

/// Ends of closed links and beginnings of new ones share the engine's list of links to look at.
fn many_links_come_and_go_at_the_limit_of_connections(choice: DriverChoice) {
    let one = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let server = Host::with(choice, one, || LinksOnly);
    let client = Host::with(choice, one, || LinksOnly);
    let (mut acceptor, address) = server.listen();
    let accepting = thread::spawn(move || {
        let mut served = 0;
        while let Ok(mut link) = acceptor.accept_wait() {
            while let Ok(received) = link.recv_wait() {
                link.send_wait(received.body.to_vec()).unwrap_or_default();
                served += 1;
            }
        }
        served
    });
    let mut done = 0;
    while done < 300 {
        // Refused while the one before is still on its way out.
        let Ok(mut link) = client.handle.connect_wait(&address) else {
            continue;
        };
        if link.send_wait(numbered(done, 8)).is_ok() && link.recv_wait().is_ok() {
            done += 1;
        }
    }
    server.stop();
    assert!(accepting.join().unwrap() >= done);
}

fn links_beyond_what_an_acceptor_holds_are_closed(choice: DriverChoice) {
    const HELD: u64 = 256;
    let (server, client) = (Host::links(choice), Host::links(choice));
    let (mut acceptor, address) = server.listen();
    // One after the other, so that they reach the acceptor in this order.
    let mut links: Vec<_> = (0..HELD + 4)
        .map(|_| client.handle.connect_wait(&address).unwrap())
        .collect();
    for mut beyond in links.drain(HELD as usize..) {
        let ended = end(beyond.recv_wait().map(drop).unwrap_err());
        assert!(matches!(ended, CloseReason::Peer(_)), "{ended:?}");
    }
    for (turn, near) in links.iter_mut().enumerate() {
        near.send_wait(numbered(turn as u64, 8)).unwrap();
        let mut far = acceptor.accept_wait().unwrap();
        assert_eq!(number(&far.recv_wait().unwrap().body), turn as u64);
    }
    // There is room again.
    let near = client.handle.connect_wait(&address).unwrap();
    near.send_wait(numbered(HELD, 8)).unwrap();
    let mut far = acceptor.accept_wait().unwrap();
    assert_eq!(number(&far.recv_wait().unwrap().body), HELD);
}
