//! Handlers that are plain functions on borrowed views, beside futures and alone.

#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

use ringway_generated::{mixed, plain, prost};
use ringway_rpc::{
    CallContext, Code, Inline, LocalRequest, Receiver, Replied, Reply, Sender, Server, Status,
};

/// Its state is its own: a service of plain functions has `&mut self`.
#[derive(Default)]
struct Sum(u64);

mod by_views {
    use super::*;
    use plain::test::forms::{
        GetRequestView, GetResponse, GetResponseView, Number, NumberView, Plain,
    };

    impl Plain for Sum {
        fn get(
            &mut self,
            call: &Inline<'_>,
            request: GetRequestView<'_>,
            reply: Reply<'_, GetResponse>,
        ) -> Result<Replied, Status> {
            assert_eq!(call.method().name, "test.forms.Plain/Get");
            if request.key.is_empty() {
                return Err(Status::of(Code::NotFound, "no key"));
            }
            // What was received is answered with, without a message in between.
            reply.send_view(&GetResponseView {
                value: request.key.as_bytes(),
                ..GetResponseView::default()
            })
        }

        fn add(
            &mut self,
            _call: &Inline<'_>,
            request: NumberView<'_>,
            reply: Reply<'_, Number>,
        ) -> Result<Replied, Status> {
            self.0 += request.value;
            reply.send(&Number { value: self.0 })
        }
    }
}

mod by_values {
    use super::*;
    use prost::test::forms::{GetRequest, GetResponse, Number, Plain};

    impl Plain for Sum {
        fn get(
            &mut self,
            _call: &Inline<'_>,
            request: GetRequest,
            reply: Reply<'_, GetResponse>,
        ) -> Result<Replied, Status> {
            if request.key.is_empty() {
                return Err(Status::of(Code::NotFound, "no key"));
            }
            reply.send(&GetResponse {
                value: request.key.into_bytes(),
                ..GetResponse::default()
            })
        }

        fn add(
            &mut self,
            _call: &Inline<'_>,
            request: Number,
            reply: Reply<'_, Number>,
        ) -> Result<Replied, Status> {
            self.0 += request.value;
            reply.send(&Number { value: self.0 })
        }
    }
}

fn adds_up(builder: ringway_rpc::ServerBuilder) {
    let mut local = builder.local().unwrap();
    for (add, sum) in [(5, 5), (6, 11), (7, 18)] {
        let call = [8, add];
        let call = LocalRequest::unary("test.forms.Plain/Add", &call);
        assert_eq!(&*local.unary(&call).unwrap(), &[8, sum]);
    }
    let call = LocalRequest::unary("test.forms.Plain/Get", b"\x0a\x03key");
    assert_eq!(&*local.unary(&call).unwrap(), b"\x0a\x03key");
    let call = LocalRequest::unary("test.forms.Plain/Get", b"");
    assert_eq!(local.unary(&call).unwrap_err().code, Code::NotFound);
    // A key that ends before its length says so.
    let call = LocalRequest::unary("test.forms.Plain/Get", b"\x0a\x09key");
    assert_eq!(local.unary(&call).unwrap_err().code, Code::Internal);
}

#[test]
fn a_service_of_plain_functions_owns_its_state() {
    let service = plain::test::forms::PlainServer::new(Sum::default());
    adds_up(Server::builder().service_here(service));
    let service = prost::test::forms::PlainServer::new(Sum::default());
    adds_up(Server::builder().service_here(service));
}

/// One plain function among futures.
struct Mixed;

mod mixture {
    use super::*;
    use mixed::test::forms::{
        CountRequest, Forms, GetRequest, GetRequestView, GetResponse, GetResponseView, Number,
    };
    use mixed::test::other::{Outer, outer};
    use ringway_rpc::generated::buffa_types::google::protobuf::{Empty, Timestamp};

    fn no<T>() -> Result<T, Status> {
        Err(Status::of(Code::Unimplemented, "not for this test"))
    }

    impl Forms for Mixed {
        fn get(
            &self,
            _call: &Inline<'_>,
            request: GetRequestView<'_>,
            reply: Reply<'_, GetResponse>,
        ) -> Result<Replied, Status> {
            let value = request.key.as_bytes();
            reply.send_view(&GetResponseView {
                value,
                ..GetResponseView::default()
            })
        }

        async fn connect(
            &self,
            _: CallContext,
            request: GetRequest,
        ) -> Result<GetResponse, Status> {
            let value = request.key.into_bytes();
            Ok(GetResponse {
                value,
                ..GetResponse::default()
            })
        }

        async fn count(
            &self,
            _: CallContext,
            _: CountRequest,
            _: Sender<Number>,
        ) -> Result<(), Status> {
            no()
        }

        async fn sum(&self, _: CallContext, _: Receiver<Number>) -> Result<Number, Status> {
            no()
        }

        async fn chat(
            &self,
            _: CallContext,
            _: Receiver<Number>,
            _: Sender<Number>,
        ) -> Result<(), Status> {
            no()
        }

        async fn when(&self, _: CallContext, _: Empty) -> Result<Timestamp, Status> {
            no()
        }

        async fn far(&self, _: CallContext, _: outer::Inner) -> Result<Outer, Status> {
            no()
        }

        async fn r#type(&self, _: CallContext, _: GetRequest) -> Result<GetResponse, Status> {
            no()
        }
    }
}

#[test]
fn a_plain_function_and_futures_share_a_service() {
    let service = mixed::test::forms::FormsServer::new(Mixed);
    let mut local = Server::builder().service_here(service).local().unwrap();
    for method in ["Get", "Connect"] {
        let name = format!("test.forms.Forms/{method}");
        let call = LocalRequest::unary(&name, b"\x0a\x03key");
        assert_eq!(&*local.unary(&call).unwrap(), b"\x0a\x03key", "{method}");
    }
    let call = LocalRequest::unary("test.forms.Forms/Type", b"");
    assert_eq!(local.unary(&call).unwrap_err().code, Code::Unimplemented);
}
