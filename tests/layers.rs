//! What a layer above the messages stands on: pieces received into one place, calls from other threads, and a
//! queue that is kept short. The same on every driver.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails the test"
)]

mod world;

use ringway::{
    Config, ConnectionId, Context, Engine, Handler, Header, Message, Peer, RecvBuffer, copies, kind,
};
use world::{World, config, pattern};

on_every_driver![
    pieces_of_a_whole_are_received_into_one_place,
    a_place_without_room_is_not_used,
    a_notify_calls_the_handler_once,
    writable_follows_when_the_queue_is_short,
];

/// Bytes of one piece; a multiple of the frames' alignment.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 4;

/// Puts pieces together.
#[derive(Default)]
struct Whole {
    place: Option<RecvBuffer>,
    /// Capacity of the place; 0 gives none.
    room: usize,
    opened: Vec<ConnectionId>,
    asked: usize,
    placed: usize,
    /// Pieces that came as ordinary messages.
    messages: Vec<Vec<u8>>,
    notified: u32,
    writable: u32,
}

impl Handler for Whole {
    fn message(&mut self, _cx: &mut Context<'_>, message: Message<'_>) {
        if let Some(place) = &mut self.place {
            let body = message.body();
            place.spare_mut()[..body.len()].copy_from_slice(body);
            place.filled(body.len());
            self.placed += 1;
        } else {
            self.messages.push(message.body().to_vec());
        }
    }

    fn opened(&mut self, cx: &mut Context<'_>, connection: ConnectionId, _peer: &Peer) {
        if self.room > 0 {
            let mut lease = cx.pools().lease(self.room).unwrap();
            lease.reset(0);
            let mut place = lease.into_recv();
            place.rewind(0);
            self.place = Some(place);
        }
        self.opened.push(connection);
    }

    fn place(&mut self, _connection: ConnectionId, header: &Header) -> Option<RecvBuffer> {
        assert_eq!((header.kind, header.tag), (0x50, 3));
        self.asked += 1;
        self.place.take()
    }

    fn placed(
        &mut self,
        _cx: &mut Context<'_>,
        _connection: ConnectionId,
        header: Header,
        buffer: RecvBuffer,
    ) {
        assert_eq!((header.word, header.length as usize), (9, PIECE));
        self.place = Some(buffer);
        self.placed += 1;
    }

    fn notified(&mut self, _cx: &mut Context<'_>) {
        self.notified += 1;
    }

    fn writable(&mut self, _cx: &mut Context<'_>, _connection: ConnectionId) {
        self.writable += 1;
    }
}

struct Sides {
    world: World,
    client: (Engine, Whole),
    server: (Engine, Whole),
    connection: ConnectionId,
}

impl Sides {
    fn connected(world: World, room: usize) -> Self {
        let config: fn() -> Config = config;
        let mut server = world.engine(config(), "server");
        let mut client = world.engine(config(), "client");
        let listener = server.listen(&world.address("tcp")).unwrap();
        let address = server.local_address(listener).unwrap().to_string();
        let connection = client.connect(&address).unwrap();
        let mut sides = Self {
            world,
            client: (client, Whole::default()),
            server: (
                server,
                Whole {
                    room,
                    ..Whole::default()
                },
            ),
            connection,
        };
        sides.until("both opened", |sides| {
            !sides.client.1.opened.is_empty() && !sides.server.1.opened.is_empty()
        });
        sides
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..300_000 {
            if done(self) {
                return;
            }
            let work =
                self.client.0.turn(&mut self.client.1) + self.server.0.turn(&mut self.server.1);
            if let (0, World::Sim(net)) = (work, &self.world) {
                let net = net.clone();
                self.client.0.park(&mut self.client.1, None);
                self.server.0.park(&mut self.server.1, None);
                net.advance();
            }
        }
        panic!("never happened: {what}");
    }

    /// Sends the pieces of `whole` as one message each.
    fn send_pieces(&mut self, whole: &[u8]) {
        for piece in whole.chunks(PIECE) {
            self.until("room to send", |sides| {
                let mut cx = sides.client.0.context();
                let Ok(mut claim) = cx.claim(sides.connection, piece.len()) else {
                    return false;
                };
                claim.copy_from_slice(piece);
                claim.kind(0x50).tag(3).word(9).commit();
                true
            });
        }
    }
}

fn pieces_of_a_whole_are_received_into_one_place(world: World) {
    let mut sides = Sides::connected(world, PIECE * PIECES + 16);
    let whole = pattern(PIECE * PIECES, 5);
    let before = copies();
    sides.send_pieces(&whole);
    sides.until("all pieces came", |sides| sides.server.1.placed == PIECES);
    assert!(sides.server.1.asked > 0, "pieces of this size are placed");
    assert!(sides.server.1.messages.is_empty());
    let place = sides.server.1.place.as_ref().unwrap();
    assert!(place.bytes() == whole, "the pieces stand in their order");
    // What arrived together with a piece's header is copied, never everything.
    let copied = copies().bytes - before.bytes;
    assert!(copied < whole.len() as u64, "{copied} bytes copied");
}

fn a_place_without_room_is_not_used(world: World) {
    let mut sides = Sides::connected(world, 64);
    let whole = pattern(PIECE, 6);
    // Dropped at the first piece: what follows goes the ordinary way.
    sides.server.1.room = 0;
    sides.send_pieces(&whole);
    sides.until("it came as a message", |sides| {
        !sides.server.1.messages.is_empty()
    });
    assert_eq!((sides.server.1.asked, sides.server.1.placed), (1, 0));
    assert!(sides.server.1.messages[0] == whole);
}

fn a_notify_calls_the_handler_once(world: World) {
    let mut sides = Sides::connected(world, 0);
    let handle = sides.server.0.handle();
    handle.notify();
    handle.notify();
    sides.until("the handler was called", |sides| {
        sides.server.1.notified > 0
    });
    for _ in 0..10 {
        sides.server.0.turn(&mut sides.server.1);
    }
    assert_eq!(sides.server.1.notified, 1);
    handle.notify();
    sides.until("and again", |sides| sides.server.1.notified == 2);
    drop(sides);
    // Without an engine it does nothing.
    handle.notify();
}

fn writable_follows_when_the_queue_is_short(world: World) {
    let mut sides = Sides::connected(world, 0);
    let connection = sides.connection;
    let mut cx = sides.client.0.context();
    assert!(!cx.writable_below(connection, 0), "nothing waits");
    let mut claim = cx.claim(connection, 1000).unwrap();
    claim.fill(1);
    claim.kind(kind::MESSAGE).commit();
    assert!(cx.writable_below(connection, 100));
    sides.until("writable", |sides| sides.client.1.writable == 1);
    assert_eq!(
        sides.client.0.context().queued_bytes(connection),
        Some(0),
        "it follows at most once, when the queue is as short as wished"
    );
}
