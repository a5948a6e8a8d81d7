//! Services generated from a `.proto`, served over sockets and called by both clients, with messages of either library.
use std::sync::mpsc;

use ringway_rpc::generated::{buffa_types, prost_types};
use ringway_rpc::{
    CallContext, CallOptions, Channel, Code, InlineChannel, LocalEvent, LocalRequest, Receiver,
    Sender, Server, Status,
};

/// The service over the messages of one library, and what every library has to pass.
macro_rules! forms {
    ($library:ident, $empty:ty, $timestamp:ty) => {
        mod $library {
            use super::*;
            use ringway_generated::$library::test::forms::{
                CountRequest, FORMS, Forms, FormsClient, FormsInlineClient, FormsServer,
                GetRequest, GetResponse, Number,
            };
            use ringway_generated::$library::test::other::{Outer, outer};

            /// `over` hears of a chat whose future ends, whatever way.
            #[derive(Clone, Default)]
            struct Handler {
                over: Option<mpsc::Sender<()>>,
            }

            struct Told(Option<mpsc::Sender<()>>);

            impl Drop for Told {
                fn drop(&mut self) {
                    if let Some(over) = &self.0 {
                        over.send(()).unwrap();
                    }
                }
            }

            fn number(value: u64) -> Number {
                Number { value }
            }

            fn key(key: &str) -> GetRequest {
                GetRequest {
                    key: key.to_owned(),
                }
            }

            fn echo(request: GetRequest) -> Result<GetResponse, Status> {
                if request.key.is_empty() {
                    return Err(Status::new(Code::NotFound, "no key").with_app_code(4));
                }
                Ok(GetResponse {
                    value: request.key.into_bytes(),
                    ..GetResponse::default()
                })
            }

            impl Forms for Handler {
                async fn get(
                    &self,
                    cx: CallContext,
                    request: GetRequest,
                ) -> Result<GetResponse, Status> {
                    if request.key == "idempotent?" {
                        let known = cx.is_idempotent().to_string();
                        return echo(key(&known));
                    }
                    echo(request)
                }

                async fn count(
                    &self,
                    _cx: CallContext,
                    request: CountRequest,
                    mut responses: Sender<Number>,
                ) -> Result<(), Status> {
                    for value in 0..u64::from(request.limit) {
                        responses.send(number(value)).await?;
                    }
                    if request.limit == 3 {
                        return Err(Status::new(Code::OutOfRange, "three is too many"));
                    }
                    Ok(())
                }

                async fn sum(
                    &self,
                    _cx: CallContext,
                    mut requests: Receiver<Number>,
                ) -> Result<Number, Status> {
                    let mut sum = 0;
                    while let Some(next) = requests.recv().await? {
                        sum += next.value;
                    }
                    Ok(number(sum))
                }

                async fn chat(
                    &self,
                    _cx: CallContext,
                    mut requests: Receiver<Number>,
                    mut responses: Sender<Number>,
                ) -> Result<(), Status> {
                    let _told = Told(self.over.clone());
                    while let Some(next) = requests.recv().await? {
                        responses.send(number(next.value * 2)).await?;
                    }
                    Ok(())
                }

                async fn when(
                    &self,
                    _cx: CallContext,
                    _request: $empty,
                ) -> Result<$timestamp, Status> {
                    Ok(<$timestamp>::from(std::time::UNIX_EPOCH))
                }

                async fn far(
                    &self,
                    _cx: CallContext,
                    request: outer::Inner,
                ) -> Result<Outer, Status> {
                    Ok(Outer {
                        inner: Some(request).into(),
                    })
                }

                async fn connect(
                    &self,
                    _cx: CallContext,
                    request: GetRequest,
                ) -> Result<GetResponse, Status> {
                    echo(request)
                }

                async fn r#type(
                    &self,
                    _cx: CallContext,
                    request: GetRequest,
                ) -> Result<GetResponse, Status> {
                    echo(request)
                }
            }

            /// A server on a thread of its own, and its address.
            fn serve(handler: Handler) -> (ringway_engine::Shards, String) {
                let builder = Server::builder().service(move || FormsServer::new(handler.clone()));
                let server = builder.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
                let address = server.addresses().first().unwrap().to_string();
                (server, address)
            }

            #[test]
            fn each_kind_is_called_over_a_channel() {
                let (_server, address) = serve(Handler::default());
                let client = FormsClient::connect(&address).unwrap();
                let response = client.get(&key("one")).wait().unwrap();
                assert_eq!(response.get().unwrap().value, b"one");

                let limit = 1000;
                let mut numbers = client.count(&CountRequest { limit });
                for value in 0..u64::from(limit) {
                    assert_eq!(numbers.next_wait().unwrap().unwrap().value, value);
                }
                assert!(numbers.next_wait().unwrap().is_none());

                let (mut out, answer) = client.sum();
                for value in 1..=100 {
                    out.send_wait(&number(value)).unwrap();
                }
                out.finish();
                assert_eq!(answer.answer_wait().unwrap().get().unwrap().value, 5050);

                let (mut out, mut doubled) = client.chat();
                for value in 0..100 {
                    out.send_wait(&number(value)).unwrap();
                    assert_eq!(doubled.next_wait().unwrap().unwrap().value, value * 2);
                }
                out.finish();
                assert!(doubled.next_wait().unwrap().is_none());
            }

            #[test]
            fn each_kind_is_called_by_the_owner_of_an_engine() {
                let (_server, address) = serve(Handler::default());
                let mut channel = InlineChannel::connect(&address).unwrap();
                let mut client = FormsInlineClient::new(&mut channel).unwrap();
                let response = client.get(&key("one")).unwrap();
                assert_eq!(&*response.view().unwrap().value, b"one");

                let options = CallOptions::default();
                let calls = [
                    client.start_get(&key("a"), &options),
                    client.start_get(&key("b"), &options),
                ];
                let [a, b] = calls.map(Result::unwrap);
                assert_eq!(client.finish_get(b).unwrap().get().unwrap().value, b"b");
                assert_eq!(client.finish_get(a).unwrap().get().unwrap().value, b"a");

                let limit = 1000;
                let request = CountRequest { limit };
                let mut numbers = client.count(&request).unwrap();
                for value in 0..u64::from(limit) {
                    let number = numbers.next().unwrap().unwrap();
                    assert_eq!(number.view().unwrap().value, value);
                }
                assert!(numbers.next().unwrap().is_none());
                assert!(numbers.next().unwrap().is_none(), "the end stays the end");
                drop(numbers);

                let mut sum = client.sum().unwrap();
                for value in 1..=100 {
                    sum.send(&number(value)).unwrap();
                }
                assert_eq!(sum.answer().unwrap().get().unwrap().value, 5050);

                let mut chat = client.chat().unwrap();
                for value in 0..100 {
                    chat.send(&number(value)).unwrap();
                    let doubled = chat.next().unwrap().unwrap();
                    assert_eq!(doubled.get().unwrap().value, value * 2);
                }
                chat.finish();
                assert!(chat.next().unwrap().is_none());
                assert_eq!(chat.send(&number(0)).unwrap_err().code, Code::Cancelled);
            }

            #[test]
            fn a_stream_that_fails_gives_its_messages_and_then_its_status() {
                let (_server, address) = serve(Handler::default());
                let request = CountRequest { limit: 3 };
                let mut numbers = FormsClient::connect(&address).unwrap().count(&request);
                for value in 0..3 {
                    assert_eq!(numbers.next_wait().unwrap().unwrap().value, value);
                }
                assert_eq!(numbers.next_wait().unwrap_err().code, Code::OutOfRange);

                let channel = InlineChannel::connect(&address).unwrap();
                let mut client = FormsInlineClient::new(channel).unwrap();
                let mut numbers = client.count(&request).unwrap();
                for _ in 0..3 {
                    assert!(numbers.next().unwrap().is_some());
                }
                assert_eq!(numbers.next().unwrap_err().code, Code::OutOfRange);
            }

            #[test]
            fn a_dropped_inline_stream_ends_its_handler() {
                let (told, over) = mpsc::channel();
                let (_server, address) = serve(Handler { over: Some(told) });
                let channel = InlineChannel::connect(&address).unwrap();
                let mut client = FormsInlineClient::new(channel).unwrap();
                let mut chat = client.chat().unwrap();
                chat.send(&number(1)).unwrap();
                assert_eq!(chat.next().unwrap().unwrap().get().unwrap().value, 2);
                drop(chat);
                // The word goes out with the next turns.
                while over.try_recv().is_err() {
                    client.get(&key("turn")).unwrap();
                }
            }

            #[test]
            fn a_status_reaches_both_clients() {
                let (_server, address) = serve(Handler::default());
                let client = FormsClient::new(Channel::connect(&address).unwrap());
                let status = client.get(&key("")).wait().unwrap_err();
                assert_eq!((status.code, status.app_code), (Code::NotFound, 4));
                let channel = InlineChannel::connect(&address).unwrap();
                let mut client = FormsInlineClient::new(channel).unwrap();
                let status = client.get(&key("")).unwrap_err();
                assert_eq!((status.code, status.app_code), (Code::NotFound, 4));
            }

            #[test]
            fn a_method_without_side_effects_is_called_as_idempotent() {
                let (_server, address) = serve(Handler::default());
                let client = FormsClient::connect(&address).unwrap();
                let response = client.get(&key("idempotent?")).wait().unwrap();
                assert_eq!(response.get().unwrap().value, b"true");
                let known = FORMS.methods.iter().filter(|it| it.idempotent);
                let known: Vec<_> = known.map(|it| it.name).collect();
                assert_eq!(known, ["test.forms.Forms/Get"]);
            }

            #[test]
            fn well_known_imported_and_oddly_named_parts_work() {
                let (_server, address) = serve(Handler::default());
                let client = FormsClient::connect(&address).unwrap();
                let epoch = client.when(&<$empty>::default()).wait().unwrap();
                assert_eq!(
                    epoch.get().unwrap(),
                    <$timestamp>::from(std::time::UNIX_EPOCH)
                );
                let inner = outer::Inner {
                    text: "far".to_owned(),
                };
                let outer = client.far(&inner).wait().unwrap().get().unwrap();
                let wanted = Outer {
                    inner: Some(inner).into(),
                };
                assert_eq!(outer, wanted);
                let response = client.connect_(&key("c")).wait().unwrap();
                assert_eq!(response.get().unwrap().value, b"c");
                let response = client.r#type(&key("t")).wait().unwrap();
                assert_eq!(response.get().unwrap().value, b"t");
            }

            #[test]
            fn each_kind_is_dispatched_without_a_connection() {
                let builder = Server::builder().service_here(FormsServer::new(Handler::default()));
                let mut local = builder.local().unwrap();
                let now = ringway_buf::Instant::monotonic();
                let numbers: [&[u8]; 2] = [b"\x08\x05", b"\x08\x06"];
                let call = LocalRequest::unary("test.forms.Forms/Get", b"\x0a\x01k");
                assert_eq!(&*local.unary(&call).unwrap(), b"\x0a\x01k");
                for (method, streams, wanted) in [
                    (
                        "Count",
                        false,
                        &[&b""[..], b"\x08\x01", b"\x08\x02", b"\x08\x03", b"\x08\x04"][..],
                    ),
                    ("Sum", true, &[&b"\x08\x0b"[..]]),
                    ("Chat", true, &[&b"\x08\x0a"[..], b"\x08\x0c"]),
                ] {
                    let name = format!("test.forms.Forms/{method}");
                    let request = LocalRequest {
                        end: !streams,
                        ..LocalRequest::unary(&name, numbers[0])
                    };
                    let call = local.open(&request, now).unwrap();
                    if streams {
                        local.send(call, numbers[1], true, now).unwrap();
                    }
                    let mut came = Vec::new();
                    let status = loop {
                        match local.poll_event() {
                            Some(LocalEvent::Message { message, .. }) => {
                                came.push(message.to_vec())
                            }
                            Some(LocalEvent::Ended {
                                status, message, ..
                            }) => {
                                came.extend(message.map(|it| it.to_vec()));
                                break status;
                            }
                            Some(LocalEvent::Writable { .. }) => {}
                            None => local.turn(now),
                        }
                    };
                    assert!(status.is_ok(), "{method}: {status}");
                    assert_eq!(came, wanted, "{method}");
                }
            }
        }
    };
}

forms!(
    buffa,
    buffa_types::google::protobuf::Empty,
    buffa_types::google::protobuf::Timestamp
);
forms!(prost, (), prost_types::Timestamp);
