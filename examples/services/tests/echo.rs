//! The service of the benchmarks.

use ringway::rpc::{Code, InlineChannel, Server};
use ringway_services::Echo;
use ringway_services::bench::{
    EchoClient, EchoInlineClient, EchoServer, Payload, PourRequest, SleepRequest,
};

#[test]
fn each_method_gives_back_what_it_got() {
    let server = Server::builder()
        .service(|| EchoServer::new(Echo))
        .workers(1);
    let server = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
    let address = server.addresses().first().unwrap().to_string();
    let client = EchoClient::connect(&address).unwrap();
    let payload = |body: &[u8]| Payload {
        body: body.to_vec(),
    };
    let answer = client.say(&payload(b"hello")).wait().unwrap();
    assert_eq!(answer.view().unwrap().body, b"hello");

    let request = SleepRequest {
        microseconds: 1,
        body: b"late".to_vec(),
    };
    let answer = client.sleep(&request).wait().unwrap();
    assert_eq!(answer.view().unwrap().body, b"late");

    let mut poured = client.pour(&PourRequest {
        count: 3,
        body_bytes: 1000,
    });
    for _ in 0..3 {
        assert_eq!(poured.next_wait().unwrap().unwrap().body.len(), 1000);
    }
    assert!(poured.next_wait().unwrap().is_none());
    let mut refused = client.pour(&PourRequest {
        count: 1,
        body_bytes: u32::MAX,
    });
    assert_eq!(refused.next_wait().unwrap_err().code, Code::InvalidArgument);

    let mut inline = EchoInlineClient::new(InlineChannel::connect(&address).unwrap()).unwrap();
    let mut drained = inline.drain().unwrap();
    for _ in 0..3 {
        drained.send(&payload(b"0123456789")).unwrap();
    }
    let drained = drained.answer().unwrap().get().unwrap();
    assert_eq!((drained.count, drained.bytes), (3, 30));

    let mut chat = inline.chat().unwrap();
    chat.send(&payload(b"again")).unwrap();
    assert_eq!(chat.next().unwrap().unwrap().view().unwrap().body, b"again");
}
