//! Every interleaving and every weak reordering of the lock-free parts, as far as loom's bounds reach.
//!
//! `RUSTFLAGS="--cfg loom -Cdebug-assertions" cargo test -p ringway-buf --release --test loom`
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use ringway_buf::checked::{Count, Link, Returns};
use ringway_buf::{Budget, Mode, Pool, PoolConfig, mpsc, spsc};

#[test]
fn spsc_values_arrive_once_and_in_order_across_a_wrap() {
    loom::model(|| {
        let (mut sender, mut receiver) = spsc::channel(2);
        let writer = thread::spawn(move || {
            for value in 0..3 {
                let mut message = Box::new(value);
                while let Err(full) = sender.push(message) {
                    message = full.into_inner();
                    thread::yield_now();
                }
            }
        });
        for expected in 0..3 {
            let value = loop {
                match receiver.pop() {
                    Some(value) => break value,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(*value, expected);
        }
        assert_eq!(receiver.pop(), None);
        writer.join().unwrap();
    });
}

#[test]
fn spsc_close_is_seen_after_the_last_value() {
    loom::model(|| {
        let (mut sender, mut receiver) = spsc::channel(2);
        let writer = thread::spawn(move || {
            sender.push(1).unwrap();
            sender.push(2).unwrap();
        });
        let mut got = 0;
        while !receiver.is_closed() {
            match receiver.pop() {
                Some(value) => got += value,
                None => thread::yield_now(),
            }
        }
        assert_eq!(got, 3, "closed means that nothing is left");
        writer.join().unwrap();
    });
}

#[test]
fn spsc_drops_what_is_left_whoever_goes_last() {
    loom::model(|| {
        let token = Arc::new(());
        let (mut sender, mut receiver) = spsc::channel(2);
        let value = Arc::clone(&token);
        let writer = thread::spawn(move || {
            sender.push(Arc::clone(&value)).ok();
            sender.push(value).ok();
        });
        drop(receiver.pop());
        drop(receiver);
        writer.join().unwrap();
        assert_eq!(Arc::strong_count(&token), 1);
    });
}

#[test]
fn mpsc_model_takes_what_both_senders_push() {
    loom::model(|| {
        let (sender, mut receiver) = mpsc::channel(2);
        let second = sender.clone();
        let writer = thread::spawn(move || second.push(1).unwrap());
        sender.push(2).unwrap();
        drop(sender);
        let early = receiver.pop();
        writer.join().unwrap();
        let got = early
            .into_iter()
            .chain(core::iter::from_fn(|| receiver.pop()))
            .sum::<i32>();
        assert_eq!(got, 3);
        assert!(receiver.is_closed());
    });
}

/// A slot as loom sees it: bytes whose every access is checked for races, and the count that arbitrates.
struct Cell {
    count: Count,
    bytes: UnsafeCell<u32>,
}

#[test]
fn last_handle_of_a_slot_owns_its_bytes() {
    loom::model(|| {
        let cell = Arc::new(Cell {
            count: Count::new(),
            bytes: UnsafeCell::new(7),
        });
        cell.count.issue();
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let cell = Arc::clone(&cell);
                cell.count.add();
                thread::spawn(move || give_up(&cell))
            })
            .collect();
        let mut recycled = u32::from(give_up(&cell));
        for reader in readers {
            recycled += u32::from(reader.join().unwrap());
        }
        assert_eq!(recycled, 1, "exactly one handle was the last");
    });
}

/// Reads the slot, drops the handle, and overwrites the slot if it was the last.
fn give_up(cell: &Cell) -> bool {
    // SAFETY: this handle is counted, so nobody writes; loom checks that claim.
    cell.bytes.with(|bytes| assert_eq!(unsafe { *bytes }, 7));
    let last = cell.count.release();
    if last {
        // SAFETY: no handle is left; loom checks that all reads happened before.
        cell.bytes.with_mut(|bytes| unsafe { *bytes = 0 });
    }
    last
}

#[test]
fn unique_handle_may_write() {
    loom::model(|| {
        let cell = Arc::new(Cell {
            count: Count::new(),
            bytes: UnsafeCell::new(7),
        });
        cell.count.issue();
        cell.count.add();
        let other = Arc::clone(&cell);
        let reader = thread::spawn(move || give_up(&other));
        if cell.count.is_unique() {
            // SAFETY: the only handle is ours; loom checks that the other's read happened before.
            cell.bytes.with_mut(|bytes| unsafe { *bytes = 8 });
        } else {
            // SAFETY: counted, and writing needs a unique handle.
            cell.bytes.with(|bytes| assert_eq!(unsafe { *bytes }, 7));
        }
        if !reader.join().unwrap() {
            assert!(cell.count.release());
        }
    });
}

#[test]
fn slots_come_home_once_with_all_their_writes() {
    loom::model(|| {
        let home = Arc::new((
            Returns::new(),
            [0; 3].map(|_| (Link::new(), UnsafeCell::new(0))),
        ));
        let givers: Vec<_> = [0..1, 1..3]
            .map(|mine: std::ops::Range<u32>| {
                let home = Arc::clone(&home);
                thread::spawn(move || {
                    for index in mine {
                        let (link, bytes) = &home.1[index as usize];
                        // SAFETY: this thread owns the slot until it pushes it; loom checks.
                        bytes.with_mut(|bytes| unsafe { *bytes = index + 1 });
                        home.0.push(index, link);
                    }
                })
            })
            .into();
        let mut seen = [false; 3];
        let mut take = || {
            let mut next = home.0.take();
            while let Some(index) = next {
                let (link, bytes) = &home.1[index as usize];
                next = link.next();
                // SAFETY: what was taken is ours; loom checks.
                bytes.with_mut(|bytes| assert_eq!(unsafe { *bytes }, index + 1));
                assert!(
                    !core::mem::replace(&mut seen[index as usize], true),
                    "came home twice"
                );
            }
        };
        // The yield makes loom look at what the givers did before this first take, too.
        thread::yield_now();
        take();
        for giver in givers {
            giver.join().unwrap();
        }
        take();
        assert_eq!(seen, [true; 3]);
    });
}

#[test]
fn whole_pool_survives_slices_dropped_elsewhere() {
    loom::model(|| {
        let budget = Budget::new(64);
        let shape = PoolConfig {
            slot_bytes: 64,
            slots_per_segment: 1,
            segments_max: 1,
            mode: Mode::Poison,
        };
        let pool = Pool::new(shape, budget.clone());
        let mut lease = pool.lease().unwrap();
        lease.append(4).unwrap().copy_from_slice(b"abcd");
        let slice = lease.freeze();
        let other = slice.clone();
        let reader = thread::spawn(move || {
            assert_eq!(&other[..], b"abcd");
            drop(other);
        });
        drop(slice);
        // While the other handle lives this is refused; afterwards it is the same slot, found poisoned.
        drop(pool.lease());
        drop(pool);
        reader.join().unwrap();
        assert_eq!(budget.used(), 0);
    });
}
