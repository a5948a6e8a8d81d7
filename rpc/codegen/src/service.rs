//! What is known about a service before it becomes Rust.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::names::{ident, shouty_snake_case};

/// Unary or which sides stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One message each way.
    Unary,
    /// The client streams, the server answers once.
    ClientStream,
    /// One request, a stream of answers.
    ServerStream,
    /// Both stream.
    Bidi,
}

impl Kind {
    /// The kind of a method whose sides stream or not.
    #[must_use]
    pub const fn of(client_streams: bool, server_streams: bool) -> Self {
        match (client_streams, server_streams) {
            (false, false) => Self::Unary,
            (true, false) => Self::ClientStream,
            (false, true) => Self::ServerStream,
            (true, true) => Self::Bidi,
        }
    }

    pub(crate) fn name(self) -> Ident {
        ident(match self {
            Self::Unary => "Unary",
            Self::ClientStream => "ClientStream",
            Self::ServerStream => "ServerStream",
            Self::Bidi => "Bidi",
        })
    }
}

/// How messages become bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Bytes as they are.
    Raw,
    /// Plain structs.
    Pod,
    /// Messages of buffa.
    Protobuf,
    /// Messages of prost.
    Prost,
}

impl Codec {
    pub(crate) fn name(self) -> Ident {
        ident(match self {
            Self::Raw => "Raw",
            Self::Pod => "Pod",
            Self::Protobuf => "Protobuf",
            Self::Prost => "Prost",
        })
    }

    /// Its number on the wire.
    pub(crate) const fn id(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Protobuf | Self::Prost => 1,
            Self::Pod => 2,
        }
    }
}

/// How a handler looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `async fn(&self, CallContext, ..)`; runs as a task on the engine's thread.
    Async,
    /// `fn(&Inline, view, Reply) -> Result<Replied, Status>`: answers when it likes.
    Plain,
    /// `fn(&Inline, view) -> Result<R, Status>`: what it returns is the answer.
    Short,
}

/// The type of a request or a response, in the forms in which code names it.
#[derive(Clone, Debug)]
pub struct Message {
    /// With a size: what handlers get and clients receive.
    pub owned: TokenStream,
    /// Behind a reference: what is sent. Differs from `owned` for bytes.
    pub borrowed: TokenStream,
    /// Read in place, with the lifetime `'_`.
    pub view: TokenStream,
}

/// One method.
#[derive(Clone, Debug)]
pub struct Method {
    /// Its name on the wire, without the service's.
    pub name: String,
    /// Its name in Rust.
    pub ident: Ident,
    /// Lines of its documentation.
    pub docs: Vec<String>,
    /// Unary or which sides stream.
    pub kind: Kind,
    /// How its handler looks.
    pub form: Form,
    /// Whether its handler takes the call's context (`CallContext` or `&Inline`).
    pub context: bool,
    /// Whether a handler that is a plain function takes a reference to the view instead of the view.
    pub by_reference: bool,
    /// How its messages become bytes.
    pub codec: Codec,
    /// Type of the requests.
    pub request: Message,
    /// Type of the responses.
    pub response: Message,
    /// Calling it twice does what calling it once does.
    pub idempotent: bool,
}

/// One service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name on the wire: `package.Service`.
    pub name: String,
    /// Name of its trait.
    pub ident: Ident,
    /// Lines of its documentation.
    pub docs: Vec<String>,
    /// Visibility of everything that is written.
    pub visibility: TokenStream,
    /// Path of the crate `ringway-rpc` in the user's program.
    pub runtime: TokenStream,
    /// An expression of type `&'static [u8]`: the serialized `FileDescriptorSet`.
    pub descriptors: TokenStream,
    /// Its methods, in the order of their indices.
    pub methods: Vec<Method>,
}

impl Service {
    /// Everything: table, server trait, adapter and clients.
    #[must_use]
    pub fn tokens(&self) -> TokenStream {
        let table = self.table();
        let server_trait = self.server_trait();
        let adapter = self.adapter();
        let clients = self.clients();
        quote! { #table #server_trait #adapter #clients }
    }

    /// No handler is a future: the service needs no sharing and gets `&mut self`.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.methods.iter().all(|method| method.form != Form::Async)
    }

    /// Name of the static that describes the service.
    pub(crate) fn table_ident(&self) -> Ident {
        ident(&shouty_snake_case(&self.ident.to_string()))
    }

    /// A name derived from the service's.
    pub(crate) fn derived(&self, suffix: &str) -> Ident {
        ident(&format!("{}{suffix}", self.ident))
    }
}

/// Documentation as attributes.
pub(crate) fn docs<S: AsRef<str>>(lines: &[S]) -> TokenStream {
    let lines = lines.iter().map(|line| {
        let line = line.as_ref();
        let line = if line.is_empty() {
            String::new()
        } else {
            format!(" {line}")
        };
        quote! { #[doc = #line] }
    });
    quote! { #(#lines)* }
}
