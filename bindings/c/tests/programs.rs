//! Programs in C and C++, built against an installed library with nothing but a compiler and the pkg-config file.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod market;
mod support;

use std::collections::BTreeSet;

use ringway::rpc::{Code, Server};
use ringway_services::bench::EchoServer;
use ringway_services::kv::{DeleteRequest, GetRequest, KeyValueClient, KeyValueServer};
use ringway_services::{Echo, Store};

use support::{Language, compiled, compiles, header, install, output, run, started};

/// Functions that the header declares.
fn declared() -> BTreeSet<String> {
    let text = header();
    let mut names = BTreeSet::new();
    let mut comment = false;
    for line in text.lines() {
        comment |= line.trim_start().starts_with("/*");
        if !comment
            && let Some(paren) = line.find('(')
            && !line.starts_with([' ', '#', '}'])
        {
            let name = line[..paren].rsplit([' ', '*']).next().unwrap();
            names.insert(name.to_owned());
        }
        comment &= !line.contains("*/");
    }
    names
}

#[test]
fn header_declares_what_the_library_exports_and_nothing_else() {
    let library = install().join("lib/libringway.so");
    let symbols = output("nm", &["-D", "--defined-only", library.to_str().unwrap()]);
    let exported: BTreeSet<String> = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .map(|name| name.split('@').next().unwrap().to_owned())
        .collect();
    let declared = declared();
    assert!(declared.len() > 50, "the header was read: {declared:?}");
    assert_eq!(declared, exported);
}

#[test]
fn library_has_its_name_and_stays_loaded() {
    let library = install().join("lib/libringway.so");
    let dynamic = output("readelf", &["-d", library.to_str().unwrap()]);
    assert!(dynamic.contains("[libringway.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}

fn echoes(source: &str, language: Language) {
    let program = compiled(source, language);
    let socket = program.with_extension("sock");
    let unix = format!("unix://{}", socket.display());
    for address in ["tcp://127.0.0.1:0", "rudp://127.0.0.1:0", &unix] {
        let said = run(&program, &[address]);
        assert!(said.contains("1000 round trips"), "{said}");
    }
}

#[test]
fn echo_runs_over_every_transport() {
    echoes("examples/echo.c", Language::C);
}

#[test]
fn a_foreign_loop_turns_an_engine() {
    let program = compiled("examples/epoll_loop.c", Language::C);
    for address in ["tcp://127.0.0.1:0", "rudp://127.0.0.1:0"] {
        let said = run(&program, &[address]);
        assert!(said.contains("20 answers"), "{said}");
    }
}

#[test]
fn the_descriptor_tells_of_everything_that_comes() {
    let program = compiled("tests/c/event_fd.c", Language::C);
    for driver in ["epoll", "auto"] {
        run(&program, &[driver]);
    }
}

#[test]
fn any_thread_uses_engines_that_have_their_own() {
    holds("tests/c/threads.c", Language::C);
}

/// What the example's client says, whoever serves.
const KV_SAID: [&str; 5] = [
    "put: OK",
    "fruit/apple is red since revision 1",
    "fruit/pear: NOT_FOUND",
    "loaded 3: OK",
    "fruit/lime is green since revision 4",
];

#[test]
fn a_client_in_c_calls_the_key_value_service_in_rust() {
    let store = Store::default();
    let server = Server::builder().service(move || KeyValueServer::new(store.clone()));
    let server = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
    let program = compiled("examples/kv_client.c", Language::C);
    let said = run(&program, &[&server.addresses()[0].to_string()]);
    for line in KV_SAID {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn a_client_in_rust_calls_the_key_value_service_in_c() {
    let program = compiled("examples/kv_server.c", Language::C);
    let mut server = started(&program, &["tcp://127.0.0.1:0"]);
    let said = run(
        &compiled("examples/kv_client.c", Language::C),
        &[&server.address],
    );
    for line in KV_SAID {
        assert!(said.contains(line), "{line}: {said}");
    }
    let client = KeyValueClient::connect(&server.address).unwrap();
    let get = |key: &str| GetRequest {
        key: key.to_owned(),
    };
    let response = client.get(&get("fruit/cherry")).wait().unwrap();
    assert_eq!(response.view().unwrap().value, b"black");
    let key = "fruit/cherry".to_owned();
    client.delete(&DeleteRequest { key }).wait().unwrap();
    let gone = client.get(&get("fruit/cherry")).wait().unwrap_err();
    assert_eq!(gone.code, Code::NotFound);
    drop(client);
    server.ends_well();
}

#[test]
fn plain_structs_cross_by_a_generated_header() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/market/mod.rs");
    let header = install().join("include/market.h");
    let made = ringway_build::CHeader::default().prefix("trade_");
    made.write(source, &header).unwrap();
    let server = Server::builder().service(|| market::OrderBookServer::new(market::Book));
    let server = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
    let address = server.addresses()[0].to_string();
    for (program, language) in [("market.c", Language::C), ("market.cpp", Language::Cpp)] {
        run(
            &compiled(&format!("tests/c/{program}"), language),
            &[&address],
        );
    }
    // Typed in C++: against the service in Rust, and as the service of a client in Rust.
    let program = compiled("../cpp/tests/order_book.cpp", Language::Cpp);
    run(&program, &[&address]);
    let mut served = started(&program, &[]);
    let client = market::OrderBookClient::connect(&served.address).unwrap();
    let side = market::Side {
        ratio: 0.5,
        change: -1.5,
        lots: -7,
        is_buy: 1,
        flags: 0,
    };
    let mut order = market::Order {
        price: 3,
        sides: [side; 2],
        levels: [[0, 1], [2, 0], [0, 0], [0, 40_000]],
        owner: *b"twelve bytes",
        r#type: -3,
    };
    let response = client.submit_order(&order).wait().unwrap();
    let fill = response.view().unwrap();
    assert_eq!((fill.sum, fill.order), (40_006, order));
    order.price = 0;
    let refused = client.submit_order(&order).wait().unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
    drop(client);
    served.ends_well();
    // A layout that differs does not compile.
    let text = std::fs::read_to_string(&header).unwrap();
    let wrong = text.replacen("owner[12]", "owner[16]", 1);
    std::fs::write(&header, wrong).unwrap();
    for (program, language) in [("market.c", Language::C), ("market.cpp", Language::Cpp)] {
        assert!(!compiles(&format!("tests/c/{program}"), language));
    }
}

/// Compiles and runs a program that needs nothing else.
fn holds(source: &str, language: Language) {
    run(&compiled(source, language), &[]);
}

#[test]
fn layouts_and_names_are_the_library_s() {
    holds("tests/c/layout.c", Language::C);
    holds("tests/c/header.cpp", Language::Cpp);
}

#[test]
fn wrong_arguments_are_refused_and_nothing_is_consumed() {
    holds("tests/c/bad_input.c", Language::C);
}

#[test]
fn connections_are_paused_drained_and_closed() {
    holds("tests/c/messages.c", Language::C);
}

#[test]
fn calls_carry_metadata_and_end_once() {
    holds("tests/c/calls.c", Language::C);
}

#[test]
fn tables_are_bounded() {
    holds("tests/c/limits.c", Language::C);
}

#[test]
fn calls_and_messages_cross_without_allocation_or_copy() {
    holds("tests/c/steady.c", Language::C);
}

#[test]
fn lent_memory_comes_back_and_detached_bytes_outlive_their_engine() {
    holds("tests/c/lent.c", Language::C);
}

#[test]
fn services_stream_both_ways() {
    holds("tests/c/served_streams.c", Language::C);
}

/// Against a server in Rust.
#[test]
fn streams_go_both_ways() {
    let server = Server::builder()
        .service(|| EchoServer::new(Echo))
        .workers(1);
    let server = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
    let program = compiled("tests/c/streams.c", Language::C);
    run(&program, &[&server.addresses()[0].to_string()]);
}

#[test]
fn echo_in_cpp_runs_over_every_transport() {
    echoes("../cpp/examples/echo.cpp", Language::Cpp);
}

#[test]
fn plain_structs_are_called_and_served_in_cpp() {
    let said = run(
        &compiled("../cpp/examples/pod_service.cpp", Language::Cpp),
        &[],
    );
    assert!(said.contains("cpp: 42"), "{said}");
}

#[test]
fn owners_in_cpp_give_back_once() {
    holds("../cpp/tests/owners.cpp", Language::Cpp);
}

#[test]
fn services_in_cpp_stream_and_refuse() {
    holds("../cpp/tests/services.cpp", Language::Cpp);
}
