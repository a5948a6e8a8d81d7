//! The store as its clients see it, from several engine threads.

use ringway::Shards;
use ringway::rpc::{Code, Server};
use ringway_services::Store;
use ringway_services::kv::{
    DeleteRequest, GetRequest, KeyValueClient, KeyValueServer, Operation, PutRequest, WatchRequest,
    outcome,
};

fn serve(threads: usize) -> Result<(Shards, String), Box<dyn std::error::Error>> {
    let store = Store::default();
    let server = Server::builder()
        .service(move || KeyValueServer::new(store.clone()))
        .shards(threads, &["tcp://127.0.0.1:0"])?;
    let address = server.addresses().first().map(ToString::to_string);
    Ok((server, address.unwrap_or_default()))
}

fn put(key: &str, value: &[u8]) -> PutRequest {
    PutRequest {
        key: key.to_owned(),
        value: value.to_vec(),
    }
}

fn get(key: &str) -> GetRequest {
    GetRequest {
        key: key.to_owned(),
    }
}

#[test]
fn what_was_put_is_read_until_it_is_deleted() {
    let (_server, address) = serve(1).unwrap();
    let client = KeyValueClient::connect(&address).unwrap();
    assert_eq!(
        client
            .put(&put("a", b"1"))
            .wait()
            .unwrap()
            .get()
            .unwrap()
            .revision,
        1
    );
    assert_eq!(
        client
            .put(&put("a", b"2"))
            .wait()
            .unwrap()
            .get()
            .unwrap()
            .revision,
        2
    );
    let response = client.get(&get("a")).wait().unwrap().get().unwrap();
    assert_eq!((&*response.value, response.revision), (&b"2"[..], 2));
    let delete = DeleteRequest {
        key: "a".to_owned(),
    };
    assert_eq!(
        client
            .delete(&delete)
            .wait()
            .unwrap()
            .get()
            .unwrap()
            .revision,
        3
    );
    assert_eq!(
        client.get(&get("a")).wait().unwrap_err().code,
        Code::NotFound
    );
    assert_eq!(
        client.delete(&delete).wait().unwrap_err().code,
        Code::NotFound
    );
}

#[test]
fn a_watcher_sees_the_changes_of_another_thread_in_order() {
    let (_server, address) = serve(2).unwrap();
    // Each channel has a connection of its own, and the server two threads for them.
    let watching = KeyValueClient::connect(&address).unwrap();
    let writing = KeyValueClient::connect(&address).unwrap();
    let mut events = watching.watch(&WatchRequest {
        prefix: "x/".to_owned(),
        from_revision: 1,
    });
    for number in 0..100_u8 {
        writing.put(&put("y", b"other")).wait().unwrap();
        writing.put(&put("x/k", &[number])).wait().unwrap();
        let event = events.next_wait().unwrap().unwrap();
        assert_eq!(event.value.as_deref(), Some(&[number][..]));
        assert_eq!(event.revision, u64::from(number) * 2 + 2);
    }
    let delete = DeleteRequest {
        key: "x/k".to_owned(),
    };
    writing.delete(&delete).wait().unwrap();
    assert_eq!(events.next_wait().unwrap().unwrap().value, None);
}

#[test]
fn a_watcher_of_forgotten_changes_is_told_so() {
    let (_server, address) = serve(1).unwrap();
    let client = KeyValueClient::connect(&address).unwrap();
    let (mut out, loaded) = client.load();
    for _ in 0..5000 {
        out.send_wait(&put("k", b"v")).unwrap();
    }
    out.finish();
    let loaded = loaded.answer_wait().unwrap().get().unwrap();
    assert_eq!((loaded.count, loaded.revision), (5000, 5000));
    let mut events = client.watch(&WatchRequest {
        prefix: String::new(),
        from_revision: 1,
    });
    assert_eq!(events.next_wait().unwrap_err().code, Code::OutOfRange);
    let mut events = client.watch(&WatchRequest {
        prefix: String::new(),
        from_revision: 4999,
    });
    assert_eq!(events.next_wait().unwrap().unwrap().revision, 4999);
}

#[test]
fn a_session_answers_each_operation_and_survives_a_failure() {
    let (_server, address) = serve(1).unwrap();
    let client = KeyValueClient::connect(&address).unwrap();
    let (mut out, mut outcomes) = client.session();
    let mut ask = |kind| {
        out.send_wait(&Operation { kind }).unwrap();
        outcomes.next_wait().unwrap().unwrap().kind.unwrap()
    };
    let outcome::Kind::Failure(failure) = ask(Some(get("a").into())) else {
        unreachable!("nothing was put");
    };
    assert_eq!(failure.code, u32::from(Code::NotFound.to_wire()));
    assert!(matches!(ask(Some(put("a", b"1").into())), outcome::Kind::Put(it) if it.revision == 1));
    assert!(matches!(ask(Some(get("a").into())), outcome::Kind::Get(it) if it.value == b"1"));
    let delete = DeleteRequest {
        key: "a".to_owned(),
    };
    assert!(matches!(ask(Some(delete.into())), outcome::Kind::Delete(it) if it.revision == 2));
    assert!(matches!(ask(None), outcome::Kind::Failure(_)));
    out.finish();
    assert!(outcomes.next_wait().unwrap().is_none());
}

#[test]
fn what_is_too_large_is_refused() {
    let (_server, address) = serve(1).unwrap();
    let client = KeyValueClient::connect(&address).unwrap();
    let status = client.put(&put(&"k".repeat(2000), b"")).wait().unwrap_err();
    assert_eq!(status.code, Code::InvalidArgument);
}
