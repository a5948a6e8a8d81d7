//! GraphQL over WebSockets: the protocol's messages and its close codes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use ringway_gateway::{GatewayConfig, Running};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::Message;

use support::{run, until};

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(running: &Running) -> Self {
        let (socket, response) = Self::handshake(running).await.unwrap();
        assert_eq!(
            response.headers()["sec-websocket-protocol"],
            "graphql-transport-ws"
        );
        Self(socket)
    }

    async fn handshake(running: &Running) -> Result<(WebSocketStream<TcpStream>, Response), Error> {
        let stream = TcpStream::connect(running.address()).await.unwrap();
        let mut request = format!("ws://{}/graphql", running.address())
            .into_client_request()
            .unwrap();
        let protocol = "graphql-transport-ws".parse().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        tokio_tungstenite::client_async(request, stream).await
    }

    async fn ready(running: &Running) -> Self {
        let mut client = Self::connect(running).await;
        client.say(json!({"type": "connection_init"})).await;
        assert_eq!(client.hear().await, json!({"type": "connection_ack"}));
        client
    }

    async fn say(&mut self, message: Value) {
        self.0
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    async fn subscribe(&mut self, id: &str, query: &str) {
        self.say(json!({"type": "subscribe", "id": id, "payload": {"query": query}}))
            .await;
    }

    async fn hear(&mut self) -> Value {
        match self.0.next().await.unwrap().unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The code that the socket was closed with.
    async fn code(&mut self) -> u16 {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Close(frame) => return frame.unwrap().code.into(),
                Message::Text(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn operations_of_all_kinds_are_answered_side_by_side() {
    let (running, mirror) = support::gateway(GatewayConfig::default().graphql(true));
    run(async {
        let mut client = Client::ready(&running).await;
        client.say(json!({"type": "ping"})).await;
        assert_eq!(client.hear().await, json!({"type": "pong"}));
        client
            .subscribe(
                "a",
                "subscription { mirrorStream(input: {big: \"2\"}) { big } }",
            )
            .await;
        let next =
            json!({"type": "next", "id": "a", "payload": {"data": {"mirrorStream": {"big": "2"}}}});
        assert_eq!(
            [client.hear().await, client.hear().await],
            [next.clone(), next]
        );
        assert_eq!(client.hear().await, json!({"type": "complete", "id": "a"}));
        // The id is free again; a query beside one that never ends; one that is wrong.
        client.subscribe("never", "{ mirrorNever { name } }").await;
        client
            .subscribe("a", "{ mirrorQuery(input: {name: \"q\"}) { name } }")
            .await;
        assert_eq!(
            client.hear().await["payload"]["data"]["mirrorQuery"]["name"],
            "q"
        );
        assert_eq!(client.hear().await["type"], "complete");
        client.subscribe("wrong", "{ nothing }").await;
        let wrong = client.hear().await;
        assert_eq!(
            (&wrong["type"], &wrong["id"]),
            (&json!("error"), &json!("wrong"))
        );
        assert!(wrong["payload"][0]["message"].is_string(), "{wrong}");
        // Completing, and going, cancels.
        client.say(json!({"type": "complete", "id": "never"})).await;
        until(|| *mirror.gone.lock().unwrap() == 1).await;
        client.subscribe("never", "{ mirrorNever { name } }").await;
        until(|| *mirror.begun.lock().unwrap() == 2).await;
        drop(client);
        until(|| *mirror.gone.lock().unwrap() == 2).await;
    });
}

#[test]
fn broken_rules_end_the_socket_with_their_codes() {
    let config = || GatewayConfig::default().graphql(true);
    let (running, mirror) = support::gateway(config());
    run(async {
        let subscribe = json!({"type": "subscribe", "id": "a", "payload": {"query": "{ mirrorNever { name } }"}});
        let init = json!({"type": "connection_init"});
        for (said, code) in [
            (vec![subscribe.clone()], 4401),
            (vec![init.clone(), init.clone()], 4429),
            (
                vec![init.clone(), subscribe.clone(), subscribe.clone()],
                4409,
            ),
            (vec![json!([])], 4400),
            (vec![json!({"type": "nothing"})], 4400),
            (
                vec![
                    init.clone(),
                    json!({"type": "subscribe", "payload": {"query": "{a}"}}),
                ],
                4400,
            ),
            (
                vec![
                    init.clone(),
                    json!({"type": "subscribe", "id": "a", "payload": {"query": 1}}),
                ],
                4400,
            ),
        ] {
            let mut client = Client::connect(&running).await;
            for message in &said {
                client.say(message.clone()).await;
            }
            assert_eq!(client.code().await, code, "{said:?}");
        }
        let mut client = Client::ready(&running).await;
        client.0.send(Message::text("{")).await.unwrap();
        assert_eq!(client.code().await, 4400);
        until(|| *mirror.begun.lock().unwrap() == *mirror.gone.lock().unwrap()).await;
    });
    let (running, _) = support::gateway(config().header_timeout(Duration::from_millis(50)));
    run(async {
        assert_eq!(Client::connect(&running).await.code().await, 4408);
    });
}

#[test]
fn a_gateway_that_stops_says_so() {
    let (running, mirror) = support::gateway(GatewayConfig::default().graphql(true));
    run(async {
        let mut client = Client::ready(&running).await;
        client.subscribe("a", "{ mirrorNever { name } }").await;
        until(|| *mirror.begun.lock().unwrap() == 1).await;
        let stopped = tokio::task::spawn_blocking(move || running.stop());
        assert_eq!(client.code().await, 1001);
        stopped.await.unwrap();
        assert_eq!(*mirror.gone.lock().unwrap(), 1);
    });
}

#[test]
fn sockets_are_bounded() {
    let config = GatewayConfig::default().graphql(true).connections_max(1);
    let (running, _) = support::gateway(config);
    run(async {
        let first = Client::ready(&running).await;
        let refused = Client::handshake(&running).await.unwrap_err();
        let Error::Http(refused) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(refused.status(), 503);
        drop(first);
        while Client::handshake(&running).await.is_err() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_message_that_is_too_long_ends_the_socket() {
    let (running, _) = support::gateway(GatewayConfig::default().graphql(true));
    run(async {
        let mut client = Client::ready(&running).await;
        let long = Message::text(" ".repeat((1 << 20) + 1));
        // The gateway may be gone before it has taken all of it.
        drop(client.0.send(long).await);
        assert!(!matches!(client.0.next().await, Some(Ok(Message::Text(_)))));
    });
}

#[test]
fn operations_of_one_socket_are_bounded() {
    let (running, mirror) = support::gateway(GatewayConfig::default().graphql(true));
    run(async {
        let mut client = Client::ready(&running).await;
        for at in 0..=32 {
            client
                .subscribe(&at.to_string(), "{ mirrorNever { name } }")
                .await;
        }
        let refused = client.hear().await;
        assert_eq!(
            (&refused["type"], &refused["id"]),
            (&json!("error"), &json!("32"))
        );
        until(|| *mirror.begun.lock().unwrap() == 32).await;
    });
}
