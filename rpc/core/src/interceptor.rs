//! What stands in front of every call of a server: authorization, logs, quotas.
//!
//! Without one, a call pays one untaken branch.

use ringway_call::{Code, Status};

use crate::CallInfo;

/// Sees every call before its service does, on the engine's thread. Must not block.
pub trait Interceptor {
    /// Lets the call pass, or ends it with a status; it is surely not started then.
    ///
    /// # Errors
    /// The status that the client gets.
    fn before(&mut self, call: &CallInfo<'_>) -> Result<(), Status>;

    /// A call that this let pass has ended with `code`; also when its connection is gone (UNAVAILABLE), or when an
    /// interceptor behind this one refused it. Exactly once for each.
    fn ended(&mut self, method: &'static crate::Method, code: Code) {
        let _ = (method, code);
    }
}

impl<F: FnMut(&CallInfo<'_>) -> Result<(), Status>> Interceptor for F {
    fn before(&mut self, call: &CallInfo<'_>) -> Result<(), Status> {
        self(call)
    }
}

/// Several interceptors in order; the first refusal counts.
pub(crate) struct Chain(pub(crate) Vec<Box<dyn Interceptor>>);

impl Interceptor for Chain {
    fn before(&mut self, call: &CallInfo<'_>) -> Result<(), Status> {
        for at in 0..self.0.len() {
            let Some(each) = self.0.get_mut(at) else {
                break;
            };
            if let Err(status) = each.before(call) {
                // Those in front had let it pass.
                for earlier in self.0.iter_mut().take(at) {
                    earlier.ended(call.method(), status.code);
                }
                return Err(status);
            }
        }
        Ok(())
    }

    fn ended(&mut self, method: &'static crate::Method, code: Code) {
        for each in &mut self.0 {
            each.ended(method, code);
        }
    }
}
