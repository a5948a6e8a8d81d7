//! The one account through which all memory that a peer can make us hold is taken.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A shared count of bytes with a hard limit.
///
/// Clones share one account. All methods are wait-free but for [`try_take`](Self::try_take), which retries
/// while another thread changes the count. Nothing here allocates after [`new`](Self::new).
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    used: AtomicUsize,
    peak: AtomicUsize,
    refused: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// An empty account that may grow to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Account {
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            limit,
        }))
    }

    /// Takes `bytes`, or takes nothing and returns `false` when that would pass the limit.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> bool {
        let account = &*self.0;
        // Relaxed: the count guards no other memory; slots are handed over by their own queue.
        let taken = account
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= account.limit)
            });
        match taken {
            Ok(before) => {
                if before + bytes > account.peak.load(Ordering::Relaxed) {
                    account.peak.fetch_max(before + bytes, Ordering::Relaxed);
                }
                true
            }
            Err(_) => {
                account.refused.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Gives `bytes` back.
    ///
    /// # Panics
    /// When more is given than was taken: that is a bug of ours which would make the limit worthless.
    pub fn give(&self, bytes: usize) {
        let before = self.0.used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(
            before >= bytes,
            "budget: gave back {bytes} of {before} bytes"
        );
    }

    /// Takes `bytes` for as long as the returned charge lives; `None` past the limit.
    #[must_use]
    pub fn charge(&self, bytes: usize) -> Option<Charge> {
        self.try_take(bytes).then(|| Charge {
            budget: self.clone(),
            bytes,
        })
    }

    /// Bytes taken now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The most bytes that were ever taken at once.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// How often a request was refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }
}

/// Bytes of a [`Budget`] that are given back on drop.
#[derive(Debug)]
pub struct Charge {
    budget: Budget,
    bytes: usize,
}

impl Charge {
    /// Size of the charge in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}
