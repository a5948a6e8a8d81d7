//! The store behind the service `kv.KeyValue`: a map, and a bounded log of its changes for those who watch.

use core::task::{Context, Poll, Waker};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringway::rpc::{Code, Status};

/// Longest key.
const KEY_BYTES_MAX: usize = 1 << 10;
/// Longest value.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// All keys and values together.
const STORE_BYTES_MAX: usize = 256 << 20;
/// Changes that a slow watcher may lie behind.
const LOG_MAX: usize = 4096;
/// Bytes of the keys and values in the log.
const LOG_BYTES_MAX: usize = 64 << 20;
/// Watchers at one time.
const WATCHERS_MAX: usize = 4096;

/// A key-value store in memory, shared by all engine threads of a server; a clone is the same store.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<Arc<str>, Value>,
    bytes: usize,
    /// Of the last change.
    revision: u64,
    /// The last changes, one revision each; the youngest is at the end.
    log: VecDeque<Change>,
    log_bytes: usize,
    watchers: BTreeMap<u64, Option<Waker>>,
    next_watcher: u64,
}

#[derive(Clone, Debug)]
struct Value {
    bytes: Arc<[u8]>,
    revision: u64,
}

/// A change of one key.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: Arc<str>,
    /// `None`: its value was taken away.
    pub(crate) value: Option<Arc<[u8]>>,
}

impl Change {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        // No update is left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the value of a key and its revision to `then`.
    pub(crate) fn read<R>(
        &self,
        key: &str,
        then: impl FnOnce(&[u8], u64) -> Result<R, Status>,
    ) -> Result<R, Status> {
        let value = self.state().values.get(key).cloned();
        let value = value.ok_or_else(|| absent(key))?;
        then(&value.bytes, value.revision)
    }

    /// Sets the value of a key; the revision of the change.
    pub(crate) fn write(&self, key: &str, value: &[u8]) -> Result<u64, Status> {
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            let text = "a key has at most 1 KiB, a value 1 MiB";
            return Err(Status::new(Code::InvalidArgument, text));
        }
        let value: Arc<[u8]> = value.into();
        let mut state = self.state();
        let known = state.values.get_key_value(key);
        let known = known.map(|(key, value)| (Arc::clone(key), value.bytes.len()));
        let (key, freed) = match known {
            Some((key, len)) => {
                let freed = key.len() + len;
                (key, freed)
            }
            None => (Arc::from(key), 0),
        };
        let bytes = state.bytes - freed + key.len() + value.len();
        if bytes > STORE_BYTES_MAX {
            let text = "the store is full; delete something first";
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        state.bytes = bytes;
        let revision = state.revision + 1;
        let kept = Value {
            bytes: Arc::clone(&value),
            revision,
        };
        state.values.insert(Arc::clone(&key), kept);
        let wakers = state.changed(Change {
            revision,
            key,
            value: Some(value),
        });
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(revision)
    }

    /// Takes the value of a key away; the revision of the change.
    pub(crate) fn remove(&self, key: &str) -> Result<u64, Status> {
        let mut state = self.state();
        let Some((key, value)) = state.values.remove_entry(key) else {
            return Err(absent(key));
        };
        state.bytes -= key.len() + value.bytes.len();
        let revision = state.revision + 1;
        let wakers = state.changed(Change {
            revision,
            key,
            value: None,
        });
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        Ok(revision)
    }

    /// Watches from a revision on; 0: from the next change on.
    pub(crate) fn follow(&self, from: u64) -> Result<Watcher, Status> {
        let mut state = self.state();
        if state.watchers.len() >= WATCHERS_MAX {
            let text = "too many watchers; try again later";
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        let next = if from == 0 { state.revision + 1 } else { from };
        let id = state.next_watcher;
        state.next_watcher += 1;
        state.watchers.insert(id, None);
        drop(state);
        Ok(Watcher {
            store: self.clone(),
            id,
            next,
        })
    }
}

impl State {
    /// Logs a change and gives out who waits for one.
    fn changed(&mut self, change: Change) -> Vec<Waker> {
        self.revision = change.revision;
        self.log_bytes += change.bytes();
        self.log.push_back(change);
        while self.log.len() > LOG_MAX || self.log_bytes > LOG_BYTES_MAX {
            if let Some(oldest) = self.log.pop_front() {
                self.log_bytes -= oldest.bytes();
            }
        }
        self.watchers
            .values_mut()
            .filter_map(Option::take)
            .collect()
    }
}

/// Follows the log. Dropping it ends the watching.
#[derive(Debug)]
pub(crate) struct Watcher {
    store: Store,
    id: u64,
    /// The revision that comes next.
    next: u64,
}

impl Watcher {
    /// The next change.
    pub(crate) async fn next(&mut self) -> Result<Change, Status> {
        core::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Result<Change, Status>> {
        let mut state = self.store.state();
        let oldest = state
            .log
            .front()
            .map_or(state.revision + 1, |it| it.revision);
        let Some(index) = self.next.checked_sub(oldest) else {
            let text = format!("the changes before revision {oldest} are forgotten; read anew");
            return Poll::Ready(Err(Status::new(Code::OutOfRange, &text)));
        };
        let change = usize::try_from(index).ok().and_then(|at| state.log.get(at));
        if let Some(change) = change.cloned() {
            self.next = change.revision + 1;
            return Poll::Ready(Ok(change));
        }
        state.watchers.insert(self.id, Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.store.state().watchers.remove(&self.id);
    }
}

fn absent(key: &str) -> Status {
    Status::new(Code::NotFound, &format!("`{key}` has no value"))
}
