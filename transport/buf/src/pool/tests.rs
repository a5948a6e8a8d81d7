use std::io::{Read, Write, pipe};

use nix::errno::Errno;
use proptest::prelude::*;

use super::*;

fn pool(slot_bytes: usize, slots: u32, mode: Mode) -> (Pool, Budget) {
    let budget = Budget::new(usize::MAX);
    let shape = PoolConfig {
        slot_bytes,
        slots_per_segment: 1,
        segments_max: slots,
        mode,
    };
    (Pool::new(shape, budget.clone()), budget)
}

#[test]
#[should_panic(expected = "use after free")]
fn poison_catches_a_write_through_a_stale_address() {
    let (pool, _) = pool(256, 1, Mode::Poison);
    let mut lease = pool.lease().unwrap();
    let stale = &raw mut lease.append(256).unwrap()[100];
    drop(lease);
    // SAFETY: none but that the memory is still mapped: this is the very bug that the mode is there to catch.
    unsafe { stale.write(7) };
    drop(pool.lease());
}

#[test]
fn poison_hides_what_the_last_owner_wrote() {
    let (pool, _) = pool(64, 1, Mode::Poison);
    pool.lease()
        .unwrap()
        .append(6)
        .unwrap()
        .copy_from_slice(b"secret");
    assert_eq!(pool.lease().unwrap().append(6).unwrap(), [POISON; 6]);
}

#[test]
fn guard_makes_the_kernel_answer_efault_on_a_freed_slot() {
    let (pool, _) = pool(4096, 2, Mode::Guard);
    let (mut reader, mut writer) = pipe().unwrap();
    let mut lease = pool.lease().unwrap();
    let room = lease.append(16).unwrap();
    // SAFETY: the slot stays mapped as long as its pool; what the kernel does with the address is the test.
    let room: &'static mut [u8] =
        unsafe { core::slice::from_raw_parts_mut(room.as_mut_ptr(), room.len()) };
    room.fill(1);
    writer.write_all(room).unwrap();
    drop(lease);
    assert_eq!(
        writer.write(room).unwrap_err().raw_os_error(),
        Some(Errno::EFAULT as i32)
    );
    assert_eq!(
        reader.read(room).unwrap_err().raw_os_error(),
        Some(Errno::EFAULT as i32)
    );
    // The same address works again for its next owner.
    let mut lease = pool.lease().unwrap();
    assert_eq!(lease.append(16).unwrap().as_ptr(), room.as_ptr());
    reader.read_exact(lease.bytes_mut()).unwrap();
    assert_eq!(lease.bytes(), [1; 16]);
}

#[test]
fn cap_of_the_pool_is_reached_and_lifted() {
    let (pool, budget) = pool(128, 3, Mode::Plain);
    let leases: Vec<_> = core::iter::from_fn(|| pool.lease()).collect();
    assert_eq!(
        (leases.len(), budget.used()),
        (3, 3 * 128),
        "a refused lease takes no budget"
    );
    assert_eq!(
        pool.stats(),
        PoolStats {
            leased: 3,
            mapped: 3,
            refused: 1
        }
    );
    drop(leases);
    assert_eq!((budget.used(), pool.stats().leased), (0, 0));
    assert!(pool.lease().is_some());
}

#[test]
fn budget_is_asked_before_memory_is_mapped() {
    let shape = PoolConfig {
        slot_bytes: 128,
        slots_per_segment: 4,
        segments_max: 1,
        mode: Mode::Plain,
    };
    let pool = Pool::new(shape, Budget::new(127));
    assert!(pool.lease().is_none());
    assert_eq!(pool.stats().mapped, 0);
}

#[test]
fn trim_gives_pages_back_and_leaves_leased_slots_alone() {
    let page = page_bytes();
    let (pool, _) = pool(page, 4, Mode::Plain);
    let mut leases: Vec<_> = core::iter::from_fn(|| pool.lease()).collect();
    for lease in &mut leases {
        lease.append(page).unwrap().fill(9);
    }
    let kept = leases.pop().unwrap();
    drop(leases);
    pool.trim(page);
    assert_eq!(
        pool.local.borrow().trimmed,
        2,
        "one of three free slots stays warm"
    );
    assert!(kept.bytes().iter().all(|byte| *byte == 9));
    let mut taken: Vec<_> = core::iter::from_fn(|| pool.lease_told()).collect();
    let firsts: Vec<_> = taken
        .iter_mut()
        .map(|(lease, cold)| (lease.append(1).unwrap()[0], *cold))
        .collect();
    assert_eq!(
        firsts,
        [(9, false), (0, true), (0, true)],
        "warm first, then zeroed pages"
    );
}

#[test]
fn slots_are_aligned_and_apart() {
    let shape = PoolConfig {
        slot_bytes: 100,
        slots_per_segment: 8,
        segments_max: 2,
        mode: Mode::Plain,
    };
    let pool = Pool::new(shape, Budget::new(usize::MAX));
    let leases: Vec<_> = core::iter::from_fn(|| pool.lease()).collect();
    let mut starts: Vec<_> = leases
        .iter()
        .map(|lease| lease.bytes().as_ptr().addr())
        .collect();
    starts.sort_unstable();
    assert_eq!(starts.len(), 16);
    assert!(starts.iter().all(|start| start.is_multiple_of(SLOT_ALIGN)));
    assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= 100));
}

proptest! {
    #[test]
    fn warm_slots_go_out_first(ops in proptest::collection::vec((any::<bool>(), 0_usize..6), 1..80)) {
        let (pool, budget) = pool(64, 8, Mode::Plain);
        let mut held = Vec::new();
        for (lease, which) in ops {
            if lease {
                held.extend(pool.lease());
            } else if !held.is_empty() {
                let freed = held.swap_remove(which % held.len());
                let address = freed.bytes().as_ptr();
                drop(freed);
                prop_assert!(pool.stats().mapped > 0, "looks at what came home, too");
                let again = pool.lease().unwrap();
                prop_assert_eq!(again.bytes().as_ptr(), address, "the last freed is the next leased");
            }
            prop_assert_eq!(budget.used(), held.len() * 64);
            prop_assert_eq!(pool.stats().leased, held.len() as u64);
        }
    }
}
