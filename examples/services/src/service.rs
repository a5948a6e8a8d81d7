//! The service `kv.KeyValue` on a [`Store`].

use ringway::rpc::{CallContext, Code, Inline, Receiver, Replied, Reply, Sender, Status};

use crate::kv::{
    DeleteRequest, DeleteRequestView, DeleteResponse, Event, Failure, GetRequest, GetRequestView,
    GetResponse, GetResponseView, KeyValue, LoadResponse, Operation, Outcome, PutRequest,
    PutRequestView, PutResponse, WatchRequest, operation, outcome,
};
use crate::store::Store;

impl KeyValue for Store {
    fn get(
        &self,
        _call: &Inline<'_>,
        request: GetRequestView<'_>,
        reply: Reply<'_, GetResponse>,
    ) -> Result<Replied, Status> {
        self.read(request.key, |value, revision| {
            // Written from where it is stored.
            reply.send_view(&GetResponseView { value, revision })
        })
    }

    fn put(
        &self,
        _call: &Inline<'_>,
        request: PutRequestView<'_>,
        reply: Reply<'_, PutResponse>,
    ) -> Result<Replied, Status> {
        let revision = self.write(request.key, request.value)?;
        reply.send(&PutResponse { revision })
    }

    fn delete(
        &self,
        _call: &Inline<'_>,
        request: DeleteRequestView<'_>,
        reply: Reply<'_, DeleteResponse>,
    ) -> Result<Replied, Status> {
        let revision = self.remove(request.key)?;
        reply.send(&DeleteResponse { revision })
    }

    async fn watch(
        &self,
        _cx: CallContext,
        request: WatchRequest,
        mut responses: Sender<Event>,
    ) -> Result<(), Status> {
        let mut watcher = self.follow(request.from_revision)?;
        loop {
            // When the client goes, this future is dropped, and the watcher with it.
            let change = watcher.next().await?;
            if change.key.starts_with(&request.prefix) {
                let event = Event {
                    revision: change.revision,
                    key: change.key.to_string(),
                    value: change.value.map(|value| value.to_vec()),
                };
                responses.send(event).await?;
            }
        }
    }

    async fn load(
        &self,
        _cx: CallContext,
        mut requests: Receiver<PutRequest>,
    ) -> Result<LoadResponse, Status> {
        let mut response = LoadResponse::default();
        while let Some(PutRequest { key, value }) = requests.recv().await? {
            response.revision = self.write(&key, &value)?;
            response.count += 1;
        }
        Ok(response)
    }

    async fn session(
        &self,
        _cx: CallContext,
        mut requests: Receiver<Operation>,
        mut responses: Sender<Outcome>,
    ) -> Result<(), Status> {
        while let Some(operation) = requests.recv().await? {
            responses.send(self.apply(operation)).await?;
        }
        Ok(())
    }
}

impl Store {
    fn apply(&self, operation: Operation) -> Outcome {
        use operation::Kind;
        let done = match operation.kind {
            Some(Kind::Get(get)) => {
                let GetRequest { key } = *get;
                self.read(&key, |value, revision| {
                    let value = value.to_vec();
                    Ok(GetResponse { value, revision }.into())
                })
            }
            Some(Kind::Put(put)) => {
                let PutRequest { key, value } = *put;
                let revision = self.write(&key, &value);
                revision.map(|revision| PutResponse { revision }.into())
            }
            Some(Kind::Delete(delete)) => {
                let DeleteRequest { key } = *delete;
                let revision = self.remove(&key);
                revision.map(|revision| DeleteResponse { revision }.into())
            }
            None => Err(Status::new(Code::InvalidArgument, "the operation is empty")),
        };
        let kind: outcome::Kind = done.unwrap_or_else(|status| {
            Failure {
                code: u32::from(status.code.to_wire()),
                message: status.message.to_string(),
            }
            .into()
        });
        Outcome { kind: Some(kind) }
    }
}
