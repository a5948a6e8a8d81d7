//! What the libraries on tokio have in common: a runtime, and the loops of calls.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::Outcome;
use crate::contestant::{Client, Setting, Workload, check, record};

/// A client of a library.
pub(crate) trait Call {
    /// Makes a call; the length of the answer.
    fn call(&self, body: Bytes, whole: bool) -> impl Future<Output = Outcome<usize>>;
}

/// A client with the runtime that it runs on.
pub(crate) struct Asynchronous<C> {
    pub(crate) runtime: Runtime,
    /// For clients that are bound to their thread.
    pub(crate) local: LocalSet,
    pub(crate) client: C,
}

/// `Default`: tokio's own default, several threads. `Best`: one thread, and a task that always yields, with which
/// tokio polls its sockets without ever sleeping.
pub(crate) fn runtime(setting: Setting) -> Outcome<Runtime> {
    match setting {
        Setting::Default => Ok(Builder::new_multi_thread().enable_all().build()?),
        Setting::Best => {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.spawn(spin());
            Ok(runtime)
        }
    }
}

/// One thread that sleeps when there is nothing to do: the default of libraries that are bound to a thread.
pub(crate) fn sleeping_thread() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

async fn spin() {
    loop {
        tokio::task::yield_now().await;
    }
}

impl<C: Call> Client for Asynchronous<C> {
    fn run(
        &mut self,
        workload: Workload,
        ops: usize,
        latencies: &mut Histogram<u64>,
    ) -> Outcome<()> {
        let client = &self.client;
        let body = Bytes::from(vec![7; workload.size()]);
        let loops = workload.outstanding();
        let work = async {
            if loops == 1 {
                for _ in 0..ops {
                    let started = Instant::now();
                    let len = client.call(body.clone(), workload.is_whole()).await?;
                    check(workload, len)?;
                    record(latencies, started);
                }
                return Ok(());
            }
            let one = |index: usize| {
                let body = body.clone();
                async move {
                    for _ in (index..ops).step_by(loops) {
                        let len = client.call(body.clone(), workload.is_whole()).await?;
                        check(workload, len)?;
                    }
                    Outcome::Ok(())
                }
            };
            try_join_all((0..loops).map(one)).await.map(drop)
        };
        self.runtime.block_on(self.local.run_until(work))
    }
}
