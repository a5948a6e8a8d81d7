use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Push,
    Pop,
    Look,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let one = prop_oneof![
        Just(Operation::Push),
        Just(Operation::Pop),
        Just(Operation::Look)
    ];
    proptest::collection::vec(one, 0..400)
}

proptest! {
    #[test]
    fn ring_behaves_like_a_bounded_deque(capacity in 0_usize..20, operations in operations()) {
        let token = Arc::new(());
        let (mut sender, mut receiver) = channel(capacity);
        let bound = capacity.max(1).next_power_of_two();
        prop_assert_eq!(sender.capacity(), bound);
        prop_assert_eq!(receiver.capacity(), bound);
        let mut oracle = VecDeque::new();
        let mut next = 0_u64;
        for operation in operations {
            match operation {
                Operation::Push => {
                    let pushed = sender.push((next, Arc::clone(&token)));
                    if oracle.len() == bound {
                        let Err(Full((value, _))) = pushed else { panic!("pushed into a full ring") };
                        prop_assert_eq!(value, next, "the refused message comes back");
                    } else {
                        prop_assert!(pushed.is_ok());
                        oracle.push_back(next);
                    }
                    next += 1;
                }
                Operation::Pop => {
                    prop_assert_eq!(receiver.pop().map(|(value, _)| value), oracle.pop_front());
                }
                Operation::Look => {
                    prop_assert_eq!(sender.len(), oracle.len());
                    prop_assert_eq!(receiver.len(), oracle.len());
                    prop_assert_eq!(receiver.is_empty(), oracle.is_empty());
                    prop_assert!(!sender.is_closed() && !receiver.is_closed());
                }
            }
        }
        prop_assert_eq!(Arc::strong_count(&token), 1 + oracle.len());
        drop((sender, receiver));
        prop_assert_eq!(Arc::strong_count(&token), 1, "what is left is dropped with the ring");
    }
}

#[test]
fn values_pass_between_threads_in_order() {
    const COUNT: u64 = 20_000;
    let (mut sender, mut receiver) = channel(8);
    let writer = std::thread::spawn(move || {
        for value in 0..COUNT {
            let mut message = Box::new(value);
            while let Err(full) = sender.push(message) {
                message = full.into_inner();
                std::thread::yield_now();
            }
        }
    });
    let mut next = 0;
    while next < COUNT {
        match receiver.pop() {
            Some(value) => {
                assert_eq!(*value, next);
                next += 1;
            }
            None => std::thread::yield_now(),
        }
    }
    writer.join().unwrap();
    assert!(receiver.is_closed());
}

#[test]
fn closed_receiver_is_seen_by_the_sender() {
    let (mut sender, receiver) = channel(1);
    assert!(!sender.is_closed());
    sender.push(1).unwrap();
    drop(receiver);
    assert!(sender.is_closed());
}

#[test]
fn closed_sender_is_seen_only_after_its_last_value() {
    let (mut sender, mut receiver) = channel(1);
    sender.push(1).unwrap();
    drop(sender);
    assert!(!receiver.is_closed(), "a value still waits");
    assert_eq!(receiver.pop(), Some(1));
    assert!(receiver.is_closed());
}

#[test]
fn positions_wrap_around() {
    let (mut sender, mut receiver) = channel(4);
    let start = usize::MAX - 1;
    for position in [&sender.ring.head, &sender.ring.tail] {
        position.store(start, Ordering::Relaxed);
    }
    (sender.tail, sender.head_seen) = (start, start);
    (receiver.head, receiver.tail_seen) = (start, start);
    for round in 0..3 {
        for value in 0..4 {
            sender.push(round * 4 + value).unwrap();
        }
        assert!(sender.push(99).is_err());
        assert_eq!(receiver.len(), 4);
        for value in 0..4 {
            assert_eq!(receiver.pop(), Some(round * 4 + value));
        }
        assert_eq!(receiver.pop(), None);
    }
}

#[test]
fn full_names_the_fix() {
    assert!(Full(()).to_string().contains("larger"));
}
