//! Certificates, names and protocols: who gets in, who does not, and what both sides are told.
#![expect(clippy::expect_used, reason = "tests; a failure names its line")]

mod world;

use std::time::Duration;

use ringway_proto::packet::{ConnectRefusal, Delivery, PacketEndpoint, SessionEnd};
use ringway_quic::{Identity, QuicConfig, Roots, TlsBuilder, TlsConfig, TlsError};

use world::{World, authority, tls};

fn config(tls: TlsBuilder) -> QuicConfig {
    QuicConfig::new(tls.build().expect("good settings"))
}

/// How a connection between these two fails, the server's view first.
fn refusal(server: QuicConfig, client: QuicConfig) -> SessionEnd {
    let mut world = World::with(1, server, client);
    world.connect(1, 0);
    assert!(world.run(Duration::from_secs(20), |world| world.end(1).is_some()));
    assert!(
        world.hosts[0].said.is_empty(),
        "the server's user hears nothing"
    );
    let end = world.end(1).expect("ended");
    assert!(!end.to_string().is_empty());
    world.assert_silent();
    end
}

const fn untrusted(alert: u8, local: bool) -> SessionEnd {
    SessionEnd::Untrusted { alert, local }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (
        authority("server.test", 2027),
        authority("server.test", 2027),
    );
    let end = refusal(
        config(tls().identity(theirs.identity())),
        config(tls().roots(ours.roots())),
    );
    // webpki: the signature does not fit the root of the same name; a root of another name is unknown (48).
    assert!(
        matches!(end, SessionEnd::Untrusted { local: true, .. }),
        "{end}"
    );
}

#[test]
fn an_expired_certificate_is_refused_and_named() {
    let old = authority("server.test", 2025);
    let end = refusal(
        config(tls().identity(old.identity())),
        config(tls().roots(old.roots())),
    );
    assert_eq!(end, untrusted(45, true));
    assert!(end.to_string().contains("expired"));
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let other = authority("other.test", 2027);
    let end = refusal(
        config(tls().identity(other.identity())),
        config(tls().roots(other.roots())),
    );
    assert!(
        matches!(end, SessionEnd::Untrusted { local: true, .. }),
        "{end}"
    );
}

#[test]
fn ends_without_a_common_protocol_part() {
    let server = authority("server.test", 2027);
    let end = refusal(
        config(tls().identity(server.identity()).alpn(["one"])),
        config(tls().roots(server.roots()).alpn(["two"])),
    );
    assert_eq!(end, untrusted(120, false));
    assert!(end.to_string().contains("ALPN"));
}

#[test]
fn without_verification_any_certificate_will_do() {
    let other = authority("other.test", 2025);
    let blind = tls().dangerous().skip_verification();
    let mut world = World::with(1, config(tls().identity(other.identity())), config(blind));
    world.open();
}

#[test]
fn a_demanded_client_certificate_opens_the_door() {
    let (server, client) = (
        authority("server.test", 2027),
        authority("client.test", 2027),
    );
    let door = tls()
        .identity(server.identity())
        .client_roots(client.roots());
    let guest = tls().roots(server.roots()).identity(client.identity());
    let mut world = World::with(1, config(door), config(guest));
    let (_, session) = world.open();
    world.send(1, session, 1, b"in", Delivery::Ordered);
    assert!(world.run(Duration::from_secs(1), |world| world.messages(0).len() == 1));
}

#[test]
fn a_client_without_or_with_the_wrong_certificate_stays_outside() {
    let server = authority("server.test", 2027);
    let (client, stranger) = (
        authority("client.test", 2027),
        authority("client.test", 2027),
    );
    let door = || {
        let door = tls().identity(server.identity());
        config(door.client_roots(client.roots()))
    };
    let end = refusal(door(), config(tls().roots(server.roots())));
    assert_eq!(end, untrusted(116, false));
    let guest = tls().roots(server.roots()).identity(stranger.identity());
    let end = refusal(door(), config(guest));
    assert!(
        matches!(end, SessionEnd::Untrusted { local: false, .. }),
        "{end}"
    );
}

#[test]
fn a_new_certificate_counts_for_new_sessions_without_restart() {
    let (first, second) = (
        authority("server.test", 2027),
        authority("server.test", 2027),
    );
    let server = tls().identity(first.identity()).build().expect("good");
    let both = format!("{}{}", first.certificate, second.certificate);
    let only = tls().roots(second.roots());
    let either = tls().roots(Roots::from_pem(both.as_bytes()).expect("two"));
    let mut world = World::new(1);
    world.add(QuicConfig::new(server.clone()), 1);
    world.add(config(either), 2);
    let strict = world.add(config(only), 3);
    let (_, session) = world.open();
    server.replace_identity(second.identity()).expect("good");
    world.connect(strict, 0);
    assert!(world.run(Duration::from_secs(5), |world| {
        world.opened(strict).is_some()
    }));
    world.send(1, session, 1, b"still here", Delivery::Ordered);
    assert!(world.run(Duration::from_secs(5), |world| world.messages(0).len() == 1));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test is about files")]
fn files_are_read_again_on_reload() {
    let folder = std::env::temp_dir().join(format!("ringway-quic-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    let write = |made: &world::Authority| {
        std::fs::write(&chain, &made.certificate).expect("written");
        std::fs::write(&key, &made.key).expect("written");
    };
    let (old, new) = (
        authority("server.test", 2025),
        authority("server.test", 2027),
    );
    write(&old);
    let identity = Identity::from_files(&chain, &key).expect("readable");
    let server = tls().identity(identity).build().expect("good");
    write(&new);
    std::fs::remove_file(&key).expect("removed");
    assert!(matches!(server.reload(), Err(TlsError::File { .. })));
    write(&new);
    server.reload().expect("readable");
    let client = config(tls().roots(new.roots()));
    World::with(1, QuicConfig::new(server), client).open();
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn what_is_wrong_with_the_settings_is_named() {
    let (one, two) = (
        authority("server.test", 2027),
        authority("server.test", 2027),
    );
    let text = b"no certificate at all";
    assert!(matches!(
        Roots::from_pem(text),
        Err(TlsError::NoCertificate)
    ));
    let keyless = Identity::from_pem(one.certificate.as_bytes(), text);
    assert!(matches!(keyless, Err(TlsError::NoKey)));
    let torn = Identity::from_pem(one.certificate.as_bytes(), two.key.as_bytes()).expect("PEM");
    assert!(matches!(
        tls().identity(torn).build(),
        Err(TlsError::Key(_))
    ));
    assert!(matches!(TlsConfig::builder().build(), Err(TlsError::Empty)));
    let lonely = tls().roots(one.roots()).client_roots(two.roots()).build();
    assert!(matches!(lonely, Err(TlsError::NoIdentity)));
    let name = tls().roots(one.roots()).server_name("no name").build();
    assert!(matches!(name, Err(TlsError::ServerName { .. })));
    let silent = tls().roots(one.roots()).alpn([""]).build();
    assert!(matches!(silent, Err(TlsError::Alpn)));
    for error in [TlsError::Empty, TlsError::NoKey, TlsError::Alpn] {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn an_endpoint_that_trusts_nobody_cannot_connect() {
    let (server, _) = world::configs();
    let mut world = World::with(1, server.clone(), server);
    let (peer, now) = (world.hosts[0].address, world.now);
    let refused = world.hosts[1].endpoint.connect(peer, now);
    assert_eq!(refused, Err(ConnectRefusal::NotConfigured));
}
