//! Random use of leases, slices, receive buffers, chains and tables against plain vectors and maps.
#![cfg(not(loom))]

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;
use ringway_buf::{Budget, Chain, Id, Lease, Mode, Pools, PoolsConfig, RecvBuffer, Slice, Table};

/// What a model test may hold, each beside the bytes it must show.
#[derive(Debug)]
enum Held {
    Lease(Lease, VecDeque<u8>),
    Slice(Slice, Vec<u8>),
    Recv(RecvBuffer, VecDeque<u8>),
}

#[derive(Clone, Debug)]
enum Operation {
    Lease { bytes: usize, headroom: usize },
    Append(usize, Vec<u8>),
    Prepend(usize, Vec<u8>),
    Advance(usize, usize),
    Truncate(usize, usize),
    Freeze(usize),
    Thaw(usize),
    Receive(usize, Vec<u8>),
    Restart(usize, u64),
    MoveOn(usize, u64),
    Share(usize, usize, usize),
    Drop(usize),
    DropElsewhere(usize),
    Give(usize),
    Trim,
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;
    let which = 0_usize..64;
    prop_oneof![
        3 => (prop_oneof![0_usize..5_000, 0_usize..70_000, 0_usize..300_000], 0_usize..200)
            .prop_map(|(bytes, headroom)| O::Lease { bytes, headroom }),
        4 => (which.clone(), bytes()).prop_map(|(which, bytes)| O::Append(which, bytes)),
        2 => (which.clone(), bytes()).prop_map(|(which, bytes)| O::Prepend(which, bytes)),
        2 => (which.clone(), 0_usize..300).prop_map(|(which, len)| O::Advance(which, len)),
        1 => (which.clone(), 0_usize..900).prop_map(|(which, len)| O::Truncate(which, len)),
        2 => which.clone().prop_map(O::Freeze),
        2 => which.clone().prop_map(O::Thaw),
        4 => (which.clone(), bytes()).prop_map(|(which, bytes)| O::Receive(which, bytes)),
        1 => (which.clone(), any::<u64>()).prop_map(|(which, phase)| O::Restart(which, phase)),
        1 => (which.clone(), any::<u64>()).prop_map(|(which, phase)| O::MoveOn(which, phase)),
        3 => (which.clone(), 0_usize..700, 0_usize..700).prop_map(|(w, a, b)| O::Share(w, a, b)),
        2 => which.clone().prop_map(O::Drop),
        1 => which.clone().prop_map(O::DropElsewhere),
        1 => which.prop_map(O::Give),
        1 => Just(O::Trim),
    ]
}

struct Model {
    pools: Pools,
    held: Vec<Held>,
    refused: bool,
}

impl Model {
    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Lease { bytes, headroom } => match self.pools.lease(bytes) {
                Some(mut lease) => {
                    assert!(lease.is_empty() && lease.tailroom() >= bytes);
                    lease.reset(headroom);
                    assert_eq!(lease.headroom(), headroom);
                    self.held.push(Held::Lease(lease, VecDeque::new()));
                }
                None => self.refused = true,
            },
            Operation::Trim => self.pools.trim(),
            _ if self.held.is_empty() => {}
            Operation::Drop(which) => drop(self.pick(which)),
            Operation::DropElsewhere(which) => {
                let held = self.pick(which);
                let dropped = std::thread::spawn(move || drop(held)).join();
                assert!(dropped.is_ok());
            }
            Operation::Give(which) => match self.pick(which) {
                Held::Lease(lease, _) => self.pools.give(lease),
                other => self.held.push(other),
            },
            Operation::Append(which, bytes)
            | Operation::Prepend(which, bytes)
            | Operation::Receive(which, bytes)
                if bytes.is_empty() =>
            {
                self.change_kind(which);
            }
            Operation::Append(which, bytes) => self.write(which, &bytes, true),
            Operation::Prepend(which, bytes) => self.write(which, &bytes, false),
            Operation::Receive(which, bytes) => self.receive(which, &bytes),
            Operation::Advance(which, len) => self.advance(which, len),
            Operation::Truncate(which, len) => self.truncate(which, len),
            Operation::Freeze(which) => self.freeze(which),
            Operation::Thaw(which) => self.thaw(which),
            Operation::Restart(which, phase) => self.restart(which, phase),
            Operation::MoveOn(which, phase) => self.move_on(which, phase),
            Operation::Share(which, from, to) => self.share(which, from, to),
        }
    }

    fn pick(&mut self, which: usize) -> Held {
        let which = which % self.held.len();
        self.held.swap_remove(which)
    }

    fn at(&mut self, which: usize) -> &mut Held {
        let which = which % self.held.len();
        &mut self.held[which]
    }

    /// A lease becomes a receive buffer, and back if nothing of it is shared.
    fn change_kind(&mut self, which: usize) {
        let changed = match self.pick(which) {
            Held::Lease(lease, content) => Held::Recv(lease.into_recv(), content),
            Held::Recv(buffer, content) => {
                let unique = buffer.is_unique();
                match buffer.try_into_lease() {
                    Ok(lease) => {
                        assert!(unique);
                        Held::Lease(lease, content)
                    }
                    Err(buffer) => {
                        assert!(!unique);
                        Held::Recv(buffer, content)
                    }
                }
            }
            slice @ Held::Slice(..) => slice,
        };
        self.held.push(changed);
    }

    fn write(&mut self, which: usize, bytes: &[u8], behind: bool) {
        let Held::Lease(lease, content) = self.at(which) else {
            return;
        };
        let room = if behind {
            lease.tailroom()
        } else {
            lease.headroom()
        };
        let place = if behind {
            lease.append(bytes.len())
        } else {
            lease.prepend(bytes.len())
        };
        assert_eq!(place.is_some(), bytes.len() <= room);
        let Some(place) = place else { return };
        place.copy_from_slice(bytes);
        if behind {
            content.extend(bytes);
        } else {
            bytes
                .iter()
                .rev()
                .for_each(|byte| content.push_front(*byte));
        }
    }

    fn receive(&mut self, which: usize, bytes: &[u8]) {
        let Held::Recv(buffer, content) = self.at(which) else {
            return;
        };
        let len = bytes.len().min(buffer.spare());
        buffer.spare_mut()[..len].copy_from_slice(&bytes[..len]);
        buffer.filled(len);
        content.extend(&bytes[..len]);
        if let Some(all) = buffer.bytes_mut() {
            // In place, as a filter that decrypts would; then back again.
            all.iter_mut().for_each(|byte| *byte = !*byte);
            all.iter_mut().for_each(|byte| *byte = !*byte);
        }
    }

    fn advance(&mut self, which: usize, len: usize) {
        let content = match self.at(which) {
            Held::Lease(lease, content) => {
                lease.advance(len);
                content
            }
            Held::Recv(buffer, content) => {
                buffer.consume(len);
                content
            }
            Held::Slice(slice, content) => {
                slice.advance(len);
                content.drain(..len.min(content.len()));
                return;
            }
        };
        content.drain(..len.min(content.len()));
    }

    fn truncate(&mut self, which: usize, len: usize) {
        if let Held::Lease(lease, content) = self.at(which) {
            lease.truncate(len);
            content.truncate(len);
        }
    }

    fn freeze(&mut self, which: usize) {
        let held = match self.pick(which) {
            Held::Lease(lease, content) => Held::Slice(lease.freeze(), content.into()),
            Held::Slice(slice, content) => {
                self.held.push(Held::Slice(slice.clone(), content.clone()));
                Held::Slice(slice, content)
            }
            recv @ Held::Recv(..) => recv,
        };
        self.held.push(held);
    }

    fn thaw(&mut self, which: usize) {
        let held = match self.pick(which) {
            Held::Slice(slice, content) => match slice.try_unfreeze() {
                Ok(lease) => Held::Lease(lease, content.into()),
                Err(slice) => Held::Slice(slice, content),
            },
            other => other,
        };
        self.held.push(held);
    }

    fn restart(&mut self, which: usize, phase: u64) {
        let Held::Recv(buffer, content) = self.at(which) else {
            return;
        };
        let unique = buffer.is_unique();
        let done = buffer.restart(phase, 1000);
        assert!(done || !unique);
        if done {
            content.clear();
            assert!(buffer.is_empty() && (unique || buffer.spare() >= 1000));
            assert_eq!(buffer.spare_mut().as_ptr().addr() as u64 % 64, phase % 64);
        }
    }

    fn move_on(&mut self, which: usize, phase: u64) {
        let Held::Recv(buffer, _) = self.at(which) else {
            return;
        };
        let need = buffer.len() + 64;
        let Some(lease) = self.pools.lease(need) else {
            return;
        };
        let Held::Recv(mut buffer, content) = self.pick(which) else {
            return;
        };
        let mut target = lease.into_recv();
        buffer.move_to(&mut target, phase);
        assert!(buffer.is_empty());
        self.held.push(Held::Recv(target, content));
        self.held.push(Held::Recv(buffer, VecDeque::new()));
    }

    fn share(&mut self, which: usize, from: usize, to: usize) {
        let (shared, content) = match self.at(which) {
            Held::Recv(buffer, content) => {
                let content: Vec<u8> = content.iter().copied().collect();
                (buffer.share(from..to), content)
            }
            Held::Slice(slice, content) => (slice.subslice(from..to), content.clone()),
            Held::Lease(..) => return,
        };
        let expected = content.get(from..to);
        assert_eq!(
            shared.is_some(),
            expected.is_some(),
            "{from}..{to} of {}",
            content.len()
        );
        if let (Some(slice), Some(expected)) = (shared, expected) {
            self.held.push(Held::Slice(slice, expected.to_vec()));
        }
    }

    fn check(&self) {
        for held in &self.held {
            match held {
                Held::Lease(lease, content) => assert!(lease.bytes().iter().eq(content)),
                Held::Slice(slice, content) => assert_eq!(slice.bytes(), content),
                Held::Recv(buffer, content) => assert!(buffer.bytes().iter().eq(content)),
            }
        }
        let leased: u64 = self
            .pools
            .stats()
            .map(|(bytes, stats)| bytes as u64 * stats.leased)
            .sum();
        assert_eq!(
            self.pools.budget().used() as u64,
            leased,
            "the account is what is leased"
        );
        assert!(self.pools.budget().used() <= self.pools.budget().limit());
        assert!(self.pools.budget().peak() >= self.pools.budget().used());
    }
}

fn run(operations: Vec<Operation>, mode: Mode) {
    let pools = Pools::new(PoolsConfig {
        budget_bytes: 1 << 20,
        mode,
    });
    let mut model = Model {
        pools,
        held: Vec::new(),
        refused: false,
    };
    for operation in operations {
        model.apply(operation);
        model.check();
    }
    let budget = model.pools.budget().clone();
    assert!(
        !model.refused || budget.refused() > 0,
        "only the budget refuses here"
    );
    // What is held may outlive its pools.
    let Model { pools, held, .. } = model;
    drop(pools);
    for held in &held {
        if let Held::Slice(slice, content) = held {
            assert_eq!(slice.bytes(), content);
        }
    }
    drop(held);
    assert_eq!(budget.used(), 0, "all came back");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn plain_pools_keep_every_byte(ops in proptest::collection::vec(operation(), 1..120)) {
        run(ops, Mode::Plain);
    }

    #[test]
    fn poisoned_pools_keep_every_byte(ops in proptest::collection::vec(operation(), 1..80)) {
        run(ops, Mode::Poison);
    }

    #[test]
    fn guarded_pools_keep_every_byte(ops in proptest::collection::vec(operation(), 1..80)) {
        run(ops, Mode::Guard);
    }
}

#[derive(Clone, Debug)]
enum Entry {
    Insert(u32),
    Remove(usize),
    RemoveStale(usize),
    Change(usize, u32),
}

proptest! {
    #[test]
    fn table_is_a_bounded_map_and_stale_ids_never_hit(
        max in 0_usize..12,
        ops in proptest::collection::vec(
            prop_oneof![
                3 => any::<u32>().prop_map(Entry::Insert),
                2 => (0_usize..99).prop_map(Entry::Remove),
                1 => (0_usize..99).prop_map(Entry::RemoveStale),
                1 => (0_usize..99, any::<u32>()).prop_map(|(which, value)| Entry::Change(which, value)),
            ],
            0..200,
        ),
    ) {
        let mut table = Table::new(max);
        let mut oracle: HashMap<Id, u32> = HashMap::new();
        let mut live: Vec<Id> = Vec::new();
        let mut stale: Vec<Id> = vec![Id::from_parts(0, 0), Id::from_parts(u32::MAX, 1)];
        for op in ops {
            match op {
                Entry::Insert(value) => match table.insert(value) {
                    Ok(id) => {
                        prop_assert!(oracle.insert(id, value).is_none() && !stale.contains(&id));
                        prop_assert_eq!(Id::from_bits(id.to_bits()), id);
                        live.push(id);
                    }
                    Err(back) => prop_assert!(back == value && live.len() == max),
                },
                Entry::Remove(which) if !live.is_empty() => {
                    let id = live.swap_remove(which % live.len());
                    prop_assert_eq!(table.remove(id), oracle.remove(&id));
                    stale.push(id);
                }
                Entry::Change(which, value) if !live.is_empty() => {
                    let id = live[which % live.len()];
                    *table.get_mut(id).unwrap() = value;
                    oracle.insert(id, value);
                }
                Entry::RemoveStale(which) => {
                    prop_assert!(table.remove(stale[which % stale.len()]).is_none());
                }
                _ => {}
            }
            prop_assert_eq!((table.len(), table.is_full()), (live.len(), live.len() == max));
            prop_assert!(stale.iter().all(|id| table.get(*id).is_none()));
            prop_assert!(oracle.iter().all(|(id, value)| table.get(*id) == Some(value)));
            let mut sorted = live.clone();
            sorted.sort_unstable();
            prop_assert_eq!(&table.ids(), &sorted);
            let walked: Vec<_> = core::iter::successors(table.next_from(0), |id| {
                table.next_from(id.index() + 1)
            })
            .collect();
            prop_assert_eq!(walked, sorted);
        }
    }

    #[test]
    fn chain_is_a_queue_of_bytes(
        ops in proptest::collection::vec((0_u8..6, bytes(), 0_usize..900), 1..80),
    ) {
        let pools = Pools::new(PoolsConfig::default());
        let (mut chain, mut other) = (Chain::new(), Chain::new());
        let (mut oracle, mut other_oracle) = (Vec::new(), Vec::new());
        for (op, bytes, len) in ops {
            let mut lease = pools.lease(bytes.len()).unwrap();
            lease.append(bytes.len()).unwrap().copy_from_slice(&bytes);
            match op {
                0 => { chain.push_lease(lease); oracle.extend(&bytes); }
                1 => { chain.push_slice(lease.freeze()); oracle.extend(&bytes); }
                2 => { other.push_lease(lease); other_oracle.extend(&bytes); }
                3 => {
                    chain.append(&mut other);
                    oracle.append(&mut other_oracle);
                    prop_assert!(other.is_empty() && other.bytes() == 0);
                }
                4 => {
                    let gone = len.min(oracle.len());
                    oracle.drain(..gone);
                    chain.advance(len, |lease| pools.give(lease));
                }
                _ => {
                    if let Some(segment) = chain.pop() {
                        let popped: Vec<u8> = oracle.drain(..segment.bytes().len()).collect();
                        prop_assert_eq!(segment.bytes(), popped);
                    }
                }
            }
            prop_assert_eq!(chain.bytes(), oracle.len());
            prop_assert_eq!(chain.is_empty(), oracle.is_empty());
            prop_assert!(chain.segments().all(|segment| !segment.bytes().is_empty()));
            prop_assert!(chain.segments().flat_map(|segment| segment.bytes()).eq(&oracle));
        }
        chain.clear();
        drop(other);
        prop_assert_eq!(pools.budget().used(), pools.stashed_bytes());
    }
}

#[test]
fn budget_limit_refuses_and_recovers() {
    let pools = Pools::new(PoolsConfig {
        budget_bytes: 64 * 1024,
        mode: Mode::Plain,
    });
    let large = pools.lease(64 * 1024).unwrap();
    assert!(pools.lease(1).is_none());
    assert!(pools.budget().refused() > 0);
    pools.give(large);
    assert_eq!(pools.stashed_bytes(), 64 * 1024);
    assert!(
        pools.lease(1).is_some(),
        "what waits in a stash does not starve another class"
    );
    assert!(pools.lease(64 * 1024).is_some());
    assert!(
        pools.lease(usize::MAX).is_none(),
        "beyond the largest class"
    );
    assert!(pools.lease(128 << 20).is_none(), "beyond the budget");
}

#[test]
fn lease_of_other_pools_goes_home() {
    let (mine, other) = (
        Pools::new(PoolsConfig::default()),
        Pools::new(PoolsConfig::default()),
    );
    mine.give(other.lease(1).unwrap());
    assert_eq!((mine.stashed_bytes(), other.budget().used()), (0, 0));
}

#[test]
fn charge_is_given_back_on_drop() {
    let budget = Budget::new(10);
    let charge = budget.charge(8).unwrap();
    assert!(budget.charge(3).is_none());
    assert!(!budget.try_take(usize::MAX), "no overflow");
    assert_eq!(
        (
            charge.bytes(),
            budget.used(),
            budget.peak(),
            budget.refused()
        ),
        (8, 8, 8, 2)
    );
    drop(charge);
    assert_eq!((budget.used(), budget.limit()), (0, 10));
}

#[test]
#[should_panic(expected = "gave back")]
fn budget_notices_what_was_never_taken() {
    Budget::new(10).give(1);
}

#[test]
fn stash_is_bounded() {
    let pools = Pools::new(PoolsConfig::default());
    let leases: Vec<_> = (0..40).map(|_| pools.lease(1).unwrap()).collect();
    leases.into_iter().for_each(|lease| pools.give(lease));
    assert_eq!(pools.stashed_bytes(), 16 * 4096);
    assert_eq!(pools.budget().used(), pools.stashed_bytes());
}
