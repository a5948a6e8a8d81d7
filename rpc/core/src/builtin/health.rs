//! `grpc.health.v1.Health`: whether a service takes calls, asked once or watched.

use core::future::poll_fn;
use core::task::{Poll, Waker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ringway_call::{Code, Kind, Status};

use super::proto::{Fields, Writer};
use crate::{CallContext, IncomingCall, Method, Raw, Sender, Service, ServiceInfo};

/// Services whose state is kept.
const SERVICES_MAX: usize = 4096;

/// Whether a service takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ServingStatus {
    /// Nothing is known.
    Unknown = 0,
    /// It takes calls.
    Serving = 1,
    /// It exists and takes no calls now.
    NotServing = 2,
    /// There is no such service.
    ServiceUnknown = 3,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<String, ServingStatus>,
    /// Counts changes.
    version: u64,
    watchers: Vec<Waker>,
}

/// What the health service says; a handle for the program, on any thread. A new one says that the server (the
/// service with the empty name) is serving.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

impl Default for Health {
    fn default() -> Self {
        let health = Self(Arc::default());
        health.set("", ServingStatus::Serving);
        health
    }
}

impl Health {
    /// Says the state of a service; watchers are told. At most 4,096 services are kept; more are ignored.
    pub fn set(&self, service: &str, status: ServingStatus) {
        let mut state = self.lock();
        let has_room = state.services.len() < SERVICES_MAX;
        match state.services.get_mut(service) {
            Some(known) => *known = status,
            None if has_room => {
                state.services.insert(service.to_owned(), status);
            }
            None => return,
        }
        state.version += 1;
        let watchers = std::mem::take(&mut state.watchers);
        drop(state);
        watchers.into_iter().for_each(Waker::wake);
    }

    /// The state of a service, if it was ever said.
    #[must_use]
    pub fn status(&self, service: &str) -> Option<ServingStatus> {
        self.lock().services.get(service).copied()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something changed after `version`; the new version.
    async fn changed(&self, version: u64) -> u64 {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.version != version {
                return Poll::Ready(state.version);
            }
            let known = state.watchers.iter().any(|it| it.will_wake(cx.waker()));
            if !known {
                state.watchers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// The service itself.
#[derive(Debug)]
pub(crate) struct HealthService(Health);

static INFO: ServiceInfo = ServiceInfo {
    name: "grpc.health.v1.Health",
    methods: &[
        Method::new("grpc.health.v1.Health/Check", Kind::Unary, 1, 0).idempotent(),
        Method::new("grpc.health.v1.Health/Watch", Kind::ServerStream, 1, 0).idempotent(),
    ],
    descriptors: include_bytes!("../../proto/health.bin"),
};

impl HealthService {
    pub(crate) fn new(health: Health) -> Self {
        Self(health)
    }
}

impl Service for HealthService {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, call: IncomingCall<'_, '_>) {
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                match self.0.status(service(request)) {
                    Some(status) => reply.send(&response(status)),
                    None => Err(Status::of(Code::NotFound, "there is no such service")),
                }
            }),
            1 => {
                let health = self.0.clone();
                call.server_stream::<Raw, Vec<u8>, Vec<u8>, _>(|cx, request, out| {
                    watch(health, cx, request, out)
                });
            }
            _ => call.unimplemented(),
        }
    }
}

fn service(request: &[u8]) -> &str {
    let name = Fields(request).find(|(field, _)| *field == 1);
    name.and_then(|(_, value)| value.text()).unwrap_or("")
}

fn response(status: ServingStatus) -> Vec<u8> {
    Writer::default().number(1, status as u64).0
}

async fn watch(
    health: Health,
    _cx: CallContext,
    request: Vec<u8>,
    mut out: Sender<Vec<u8>>,
) -> Result<(), Status> {
    let name = service(&request).to_owned();
    let (mut version, mut last) = (u64::MAX, None);
    loop {
        version = health.changed(version).await;
        let now = health.status(&name);
        let now = now.unwrap_or(ServingStatus::ServiceUnknown);
        if last != Some(now) {
            last = Some(now);
            out.send(response(now)).await?;
        }
    }
}
