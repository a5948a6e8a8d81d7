//! What a server says about its services, as people ask for them.

use std::time::Duration;

use prost_reflect::{DescriptorPool, MethodDescriptor};
use ringway::rpc::{Code, Kind, Status};

use super::names;
use super::remote::Remote;
use crate::failure::Failure;

/// What it is called when something goes wrong: nobody has asked for it by name.
const SHORT: &str = "reflection";

/// An open conversation with the service, and the files that it has told so far.
#[derive(Debug)]
pub(crate) struct Reflection {
    server: ringway::rpc::Reflection,
    place: String,
}

impl Reflection {
    /// Opens the conversation; it ends after `timeout`.
    pub(crate) fn open(remote: &Remote, timeout: Option<Duration>) -> Self {
        Self {
            server: remote.reflection(timeout),
            place: remote.address().to_string(),
        }
    }

    fn failed(&self, status: Status) -> Failure {
        match status.code {
            Code::Unimplemented => Failure::NoReflection(self.place.clone()),
            _ => Failure::call(SHORT, status),
        }
    }

    /// Names of all services, in order.
    pub(crate) fn services(&mut self) -> Result<Vec<String>, Failure> {
        let names = self.server.services();
        names.map_err(|status| self.failed(status))
    }

    /// Learns the file that defines a symbol, with its imports; false if the server knows none.
    pub(crate) fn learn(&mut self, symbol: &str) -> Result<bool, Failure> {
        let is_known = self.server.learn(symbol);
        is_known.map_err(|status| self.failed(status))
    }

    /// Everything that was learned; google's own files are known to everybody.
    pub(crate) fn pool(&mut self) -> Result<DescriptorPool, Failure> {
        let set = self.server.descriptors(|name| {
            let known = DescriptorPool::global().get_file_by_name(name);
            known.map(|file| file.encode_to_vec())
        });
        let set = set.map_err(|status| self.failed(status))?;
        let mut pool = DescriptorPool::new();
        match pool.decode_file_descriptor_set(&*set) {
            Ok(()) => Ok(pool),
            Err(error) => {
                let text = format!("{}: its descriptors are unusable: {error}", self.place);
                Err(Failure::Connection(text))
            }
        }
    }

    /// The method of a name, and the pool it is of. A wrong name is answered by near ones.
    pub(crate) fn method(&mut self, name: &MethodName) -> Result<MethodDescriptor, Failure> {
        let MethodName { service, method } = name;
        let is_known = self.learn(service)?;
        let pool = self.pool()?;
        let found = pool.get_service_by_name(service);
        let Some(found) = found.filter(|_| is_known) else {
            return Err(self.no_service(name)?);
        };
        if let Some(found) = found.methods().find(|it| it.name() == method) {
            return Ok(found);
        }
        let all: Vec<String> = found.methods().map(|it| it.name().to_owned()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let hint = names::sentence(method, &all);
        let text = format!("the service `{service}` has no method `{method}`{hint}");
        Err(Failure::Usage(text))
    }

    /// Why there is no such service.
    fn no_service(&mut self, wanted: &MethodName) -> Result<Failure, Failure> {
        let services = self.services()?;
        let service = &wanted.service;
        if services.contains(service) {
            let text = format!(
                "the server has no descriptors of `{service}`; call it with --raw or --hex"
            );
            return Ok(Failure::Usage(text));
        }
        let mut methods: Vec<String> = Vec::new();
        for name in &services {
            self.learn(name)?;
        }
        for service in self.pool()?.services() {
            let own = service.full_name();
            methods.extend(service.methods().map(|it| format!("{own}/{}", it.name())));
        }
        let all: Vec<&str> = methods.iter().map(String::as_str).collect();
        let name = wanted.to_string();
        let hint = names::sentence(&name, &all);
        Ok(Failure::Usage(format!("the server has no `{name}`{hint}")))
    }
}

/// `package.Service/Method`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodName {
    pub(crate) service: String,
    pub(crate) method: String,
}

impl std::fmt::Display for MethodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.service.is_empty() {
            return f.write_str(&self.method);
        }
        write!(f, "{}/{}", self.service, self.method)
    }
}

impl MethodName {
    /// Reads `package.Service/Method`; the last dot may stand for the slash.
    pub(crate) fn of(text: &str) -> Self {
        let text = text.strip_prefix('/').unwrap_or(text);
        let parts = text.rsplit_once('/').or_else(|| text.rsplit_once('.'));
        let (service, method) = parts.unwrap_or(("", text));
        Self {
            service: service.to_owned(),
            method: method.to_owned(),
        }
    }
}

/// Who streams, by the descriptor.
pub(crate) fn kind(method: &MethodDescriptor) -> Kind {
    match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => Kind::Unary,
        (true, false) => Kind::ClientStream,
        (false, true) => Kind::ServerStream,
        (true, true) => Kind::Bidi,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_names_have_a_slash_or_a_dot() {
        for text in ["a.B/C", "/a.B/C", "a.B.C"] {
            assert_eq!(MethodName::of(text).to_string(), "a.B/C", "{text}");
        }
        assert_eq!(MethodName::of("C").to_string(), "C");
    }
}
