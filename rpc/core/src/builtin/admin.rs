//! `ringway.admin.v1.Admin`: the server's statistics, for `ringway top` and collectors.

use ringway_call::Kind;

use super::proto::{Fields, Value, Writer};
use crate::stats::{MethodStats, StatsReader, Times};
use crate::{IncomingCall, Method, Raw, Service, ServiceInfo};

static INFO: ServiceInfo = ServiceInfo {
    name: "ringway.admin.v1.Admin",
    methods: &[Method::new("ringway.admin.v1.Admin/Stats", Kind::Unary, 1, 0).idempotent()],
    descriptors: include_bytes!("../../proto/admin.bin"),
};

/// The service.
#[derive(Debug)]
pub(crate) struct Admin(StatsReader);

impl Admin {
    pub(crate) fn new(reader: StatsReader) -> Self {
        Self(reader)
    }
}

impl Service for Admin {
    fn info(&self) -> &'static ServiceInfo {
        &INFO
    }

    fn call(&mut self, mut call: IncomingCall<'_, '_>) {
        call.publish_stats();
        match call.method() {
            0 => call.inline::<Raw, [u8], [u8]>(|_call, request, reply| {
                let mut fields = Fields(request);
                let buckets = fields.any(|(field, value)| field == 1 && value == Value::Number(1));
                reply.send(&response(&self.0.methods(), buckets))
            }),
            _ => call.unimplemented(),
        }
    }
}

/// `ringway.admin.v1.StatsResponse`.
fn response(methods: &[MethodStats], buckets: bool) -> Vec<u8> {
    let all = methods.iter().fold(Writer::default(), |out, method| {
        out.message(1, one(method, buckets))
    });
    all.0
}

fn one(method: &MethodStats, buckets: bool) -> Writer {
    let mut out = Writer::default()
        .text(1, method.name)
        .number(2, method.started)
        .number(3, method.running())
        .number(4, method.refused);
    for (code, count) in (0_u64..).zip(method.ended).filter(|(_, count)| *count > 0) {
        out = out.message(5, Writer::default().number(1, code).number(2, count));
    }
    for (field, times) in [(6, &method.queue), (7, &method.wire), (8, &method.handler)] {
        if let Some(times) = times {
            out = out.message(field, self::times(times, buckets));
        }
    }
    out
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of at most a minute in nanoseconds"
)]
fn times(times: &Times, buckets: bool) -> Writer {
    let out = Writer::default()
        .number(1, times.count())
        .number(2, times.mean_ns() as u64)
        .number(3, times.quantile_ns(0.5))
        .number(4, times.quantile_ns(0.9))
        .number(5, times.quantile_ns(0.99))
        .number(6, times.quantile_ns(0.999))
        .number(7, times.max_ns());
    if !buckets {
        return out;
    }
    out.numbers(8, times.buckets().map(|(ns, _)| ns))
        .numbers(9, times.buckets().map(|(_, count)| count))
}
