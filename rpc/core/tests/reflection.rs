//! Reflection: what is told about services, and asking servers that tell wrong things.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

use core::time::Duration;
use std::borrow::Cow;
use std::cell::Cell;

use prost::Message;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};
use ringway_call::{Code, Kind};
use ringway_rpc::{
    CallOptions, Channel, Definitions, IncomingCall, Method, Raw, Reflection, Server, Service,
    ServiceInfo, Status,
};

static INFO: ServiceInfo = ServiceInfo {
    name: "grpc.reflection.v1.ServerReflection",
    methods: &[Method::new(
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Kind::Bidi,
        1,
        0,
    )],
    descriptors: &[],
};

/// Answers questions by a function, right or wrong.
struct Told<F>(F);

impl<F: Fn(&[u8]) -> Result<Vec<u8>, Status> + Clone + 'static> Service for Told<F> {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        let told = self.0.clone();
        call.bidi::<Raw, Vec<u8>, Vec<u8>, _>(|_cx, mut input, mut out| async move {
            while let Some(question) = input.recv().await? {
                out.send(told(&question)?).await?;
            }
            Ok(())
        });
    }
}

/// Asks a server whose answers are those of `told`.
fn ask<F, R>(told: F, ask: impl FnOnce(&mut Reflection) -> R) -> R
where
    F: Fn(&[u8]) -> Result<Vec<u8>, Status> + Clone + Send + Sync + 'static,
{
    let server = Server::builder().service(move || Told(told.clone()));
    let server = server.shards(1, &["tcp://127.0.0.1:0"]).unwrap();
    let channel = Channel::connect(&server.addresses()[0].to_string()).unwrap();
    let options = CallOptions::timeout(Duration::from_secs(60));
    ask(&mut Reflection::open(&channel, &options))
}

fn file(name: &str, imports: &[&str], message: &str) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some("shop".to_owned()),
        dependency: imports.iter().map(ToString::to_string).collect(),
        message_type: vec![DescriptorProto {
            name: Some(message.to_owned()),
            ..DescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    }
}

fn definitions(files: &[FileDescriptorProto]) -> Definitions {
    let services = ["shop.B".to_owned(), "shop.A".to_owned()];
    Definitions::new(
        services,
        files.iter().map(|file| Cow::Owned(file.encode_to_vec())),
    )
}

#[derive(Clone, PartialEq, prost::Message)]
struct Answer {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "5")]
    numbers: Option<Numbers>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
    #[prost(message, optional, tag = "7")]
    error: Option<Refusal>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Numbers {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, repeated, tag = "2")]
    number: Vec<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    service: Vec<Name>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Refusal {
    #[prost(int32, tag = "1")]
    code: i32,
}

/// A question for a file or a symbol.
fn question(field: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![field << 3 | 2, u8::try_from(text.len()).unwrap()];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[test]
fn what_is_learned_is_complete() {
    let all = [
        file("a.proto", &["b.proto", "google.proto"], "A"),
        file("b.proto", &["c.proto"], "B"),
        file("c.proto", &[], "C"),
        file("d.proto", &[], "D"),
    ];
    let google = file("google.proto", &["deeper.proto"], "G");
    let deeper = file("deeper.proto", &[], "H");
    let set = ask(
        {
            let all = all.clone();
            // This server tells no imports unless it is asked for them.
            move |question| {
                let bare = all.iter().find(|file| {
                    let name = file.name();
                    let message = format!("shop.{}", file.message_type[0].name());
                    question.ends_with(name.as_bytes()) || question.ends_with(message.as_bytes())
                });
                let Some(bare) = bare else {
                    return definitions(&all).answer(question);
                };
                let answer = Answer {
                    files: Some(Files {
                        file: vec![bare.encode_to_vec()],
                    }),
                    ..Answer::default()
                };
                Ok(answer.encode_to_vec())
            }
        },
        |server| {
            assert_eq!(server.services().unwrap(), ["shop.A", "shop.B"]);
            assert!(!server.learn("shop.Nothing").unwrap());
            assert!(server.learn("shop.A").unwrap());
            assert_eq!(
                server.descriptors(|_| None).unwrap_err().code,
                Code::NotFound
            );
            let known = |name: &str| match name {
                "google.proto" => Some(google.encode_to_vec()),
                "deeper.proto" => Some(deeper.encode_to_vec()),
                _ => None,
            };
            server.descriptors(known).unwrap()
        },
    );
    let set = FileDescriptorSet::decode(&*set).unwrap();
    let names: Vec<_> = set.file.iter().map(FileDescriptorProto::name).collect();
    let wanted = [
        "a.proto",
        "b.proto",
        "c.proto",
        "deeper.proto",
        "google.proto",
    ];
    assert_eq!(names, wanted);
    assert_eq!(set.file[0], all[0]);
}

#[test]
fn extensions_are_told_by_message_and_number() {
    let extension = |number| FieldDescriptorProto {
        name: Some(format!("more{number}")),
        extendee: Some(".shop.Order".to_owned()),
        number: Some(number),
        ..FieldDescriptorProto::default()
    };
    let mut far = file("far.proto", &[], "Far");
    far.extension.push(extension(100));
    far.message_type[0].extension.push(extension(7));
    let known = definitions(&[file("near.proto", &[], "Order"), far.clone()]);
    let answer = |question: &[u8]| Answer::decode(&*known.answer(question).unwrap()).unwrap();

    let numbers = answer(&question(6, "shop.Order")).numbers.unwrap();
    assert_eq!(
        (&*numbers.name, &*numbers.number),
        ("shop.Order", &[7, 100][..])
    );
    let none = answer(&question(6, "shop.Far")).numbers.unwrap();
    assert!(none.number.is_empty());
    assert_eq!(answer(&question(6, "shop.No")).error.unwrap().code, 5);

    let asked = |number: u8| {
        let mut request = question(1, "shop.Order");
        request.extend([2 << 3, number]);
        let mut question = vec![5 << 3 | 2, u8::try_from(request.len()).unwrap()];
        question.extend(request);
        answer(&question)
    };
    for number in [7, 100] {
        assert_eq!(asked(number).files.unwrap().file, [far.encode_to_vec()]);
    }
    assert_eq!(asked(8).error.unwrap().code, 5);
    let by_symbol = answer(&question(4, "shop.Far.more7")).files.unwrap();
    assert_eq!(by_symbol.file, [far.encode_to_vec()]);
}

#[test]
fn of_files_with_one_name_the_first_counts() {
    let (first, second) = (file("a.proto", &[], "A"), file("a.proto", &[], "B"));
    let known = definitions(&[first.clone(), second]);
    let answer = Answer::decode(&*known.answer(&question(3, "a.proto")).unwrap()).unwrap();
    assert_eq!(answer.files.unwrap().file, [first.encode_to_vec()]);
}

#[test]
fn wrong_questions_are_refused() {
    let known = definitions(&[file("a.proto", &[], "A")]);
    for malformed in [&[0x0A, 5, 1][..], &[0x80; 11], &[4 << 3 | 3]] {
        let status = known.answer(malformed).unwrap_err();
        assert_eq!(status.code, Code::InvalidArgument, "{malformed:?}");
    }
    let code = |question: &[u8]| {
        let answer = Answer::decode(&*known.answer(question).unwrap()).unwrap();
        answer.error.unwrap().code
    };
    assert_eq!(code(b""), 3, "nothing is asked");
    assert_eq!(code(&[5 << 3, 1]), 3, "a number is no extension");
    assert_eq!(code(&question(4, "\u{1}")), 5);
    assert_eq!(code(&[4 << 3 | 2, 1, 0xFF]), 5, "a name that is no text");
    assert_eq!(code(&question(8, "x")), 12);
}

#[test]
fn a_server_that_tells_nonsense_is_given_up() {
    for nonsense in [
        &[0x0A, 5, 1][..],
        // A file that is none.
        &[4 << 3 | 2, 4, 1 << 3 | 2, 2, 0x0A, 9],
    ] {
        let told = move |_question: &[u8]| Ok(nonsense.to_vec());
        let status = ask(told, |server| server.learn("shop.A").unwrap_err());
        assert_eq!(status.code, Code::Internal, "{nonsense:?}");
    }
    // A refusal that says that all is well.
    let refused = [7 << 3 | 2, 0];
    let status = ask(
        move |_question| Ok(refused.to_vec()),
        |server| server.learn("shop.A").unwrap_err(),
    );
    assert_eq!(status.code, Code::Unknown);
    let ended = |_question: &[u8]| Err(Status::of(Code::DataLoss, "gone"));
    let status = ask(ended, |server| server.services().unwrap_err());
    assert_eq!((status.code, &*status.message), (Code::DataLoss, "gone"));
}

#[test]
fn a_server_that_tells_too_much_is_given_up() {
    let services = |_question: &[u8]| {
        let names = (0..10_001).map(|number| format!("shop.S{number}"));
        Definitions::new(names, []).answer(&[7 << 3 | 2, 0])
    };
    let status = ask(services, |server| server.services().unwrap_err());
    assert_eq!(status.code, Code::ResourceExhausted, "{status:?}");

    // Each answer tells files that none before it told.
    fn without_end(
        count: u32,
        padding: usize,
    ) -> impl Fn(&[u8]) -> Result<Vec<u8>, Status> + Clone + Send + Sync {
        thread_local!(static ROUND: Cell<u32> = const { Cell::new(0) });
        move |_question| {
            let round = ROUND.get();
            ROUND.set(round + 1);
            let file = (0..count).map(|number| {
                let name = format!("{round}/{number}");
                file(&name, &[], &"x".repeat(padding)).encode_to_vec()
            });
            let answer = Answer {
                files: Some(Files {
                    file: file.collect(),
                }),
                ..Answer::default()
            };
            Ok(answer.encode_to_vec())
        }
    }
    for (count, padding, what) in [(1_000, 1, "10000 files"), (1, 1 << 20, "67108864 bytes")] {
        let status = ask(without_end(count, padding), |server| {
            for _ in 0..100 {
                if let Err(status) = server.learn("shop.A") {
                    return status;
                }
            }
            Status::OK
        });
        assert_eq!(status.code, Code::ResourceExhausted, "{status:?}");
        assert!(status.message.contains(what), "{status:?}");
    }
}
