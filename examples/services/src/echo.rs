//! The service `bench.Echo`.

use core::time::Duration;

use ringway::rpc::{CallContext, Code, Inline, Receiver, Replied, Reply, Sender, Status};

use crate::bench::{self, DrainResponse, Payload, PayloadView, PourRequest, SleepRequestView};

/// Longest time that `Sleep` sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// Largest body that `Pour` sends.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Answers at no cost of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl bench::Echo for Echo {
    fn say(
        &self,
        _call: &Inline<'_>,
        request: PayloadView<'_>,
        reply: Reply<'_, Payload>,
    ) -> Result<Replied, Status> {
        // The answer is written from the received bytes: no allocation.
        reply.send_view(&request)
    }

    fn sleep(
        &self,
        _call: &Inline<'_>,
        request: SleepRequestView<'_>,
        reply: Reply<'_, Payload>,
    ) -> Result<Replied, Status> {
        let time = Duration::from_micros(request.microseconds.into()).min(SLEEP_MAX);
        let body = request.body.to_vec();
        reply.blocking(move |_job| {
            std::thread::sleep(time);
            Ok(Payload { body })
        })
    }

    async fn pour(
        &self,
        _cx: CallContext,
        request: PourRequest,
        mut responses: Sender<Payload>,
    ) -> Result<(), Status> {
        let bytes = usize::try_from(request.body_bytes).unwrap_or(usize::MAX);
        if bytes > BODY_BYTES_MAX {
            return Err(Status::of(
                Code::InvalidArgument,
                "a body has at most 1 MiB",
            ));
        }
        let payload = Payload {
            body: vec![0; bytes],
        };
        for _ in 0..request.count {
            responses.send(&payload).await?;
        }
        Ok(())
    }

    async fn drain(
        &self,
        _cx: CallContext,
        mut requests: Receiver<Payload>,
    ) -> Result<DrainResponse, Status> {
        let mut response = DrainResponse::default();
        while let Some(payload) = requests.recv().await? {
            response.count += 1;
            response.bytes += payload.body.len() as u64;
        }
        Ok(response)
    }

    async fn chat(
        &self,
        _cx: CallContext,
        mut requests: Receiver<Payload>,
        mut responses: Sender<Payload>,
    ) -> Result<(), Status> {
        while let Some(payload) = requests.recv().await? {
            responses.send(payload).await?;
        }
        Ok(())
    }
}
