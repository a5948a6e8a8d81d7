//! The client's half: one client over a `Channel`, one over an engine of the caller's own.

use std::collections::BTreeSet;

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::names::ident;
use crate::service::{Kind, Method, Service, docs};

/// Names that the clients use themselves.
const OWN: &[&str] = &["new", "connect", "channel", "into_inner"];

/// Gives out names that nobody has yet.
struct Names(BTreeSet<String>);

impl Names {
    fn of(service: &Service) -> Self {
        let methods = service
            .methods
            .iter()
            .map(|method| method.ident.to_string());
        Self(OWN.iter().map(ToString::to_string).chain(methods).collect())
    }

    /// The name of a method; a trailing underscore tells it from one of the client's own.
    fn method(&mut self, method: &Method) -> Ident {
        if OWN.contains(&method.ident.to_string().as_str()) {
            return self.derived("", method, "_");
        }
        method.ident.clone()
    }

    fn derived(&mut self, prefix: &str, method: &Method, suffix: &str) -> Ident {
        let base = method.ident.to_string();
        let mut name = format!("{prefix}{}{suffix}", base.trim_start_matches("r#"));
        while !self.0.insert(name.clone()) {
            name.push('_');
        }
        ident(&name)
    }
}

impl Service {
    /// Both clients.
    #[must_use]
    pub fn clients(&self) -> TokenStream {
        let client = self.client();
        let inline = self.inline_client();
        quote! { #client #inline }
    }

    fn client(&self) -> TokenStream {
        let Self {
            visibility,
            runtime: rt,
            ..
        } = self;
        let client = self.derived("Client");
        let mut names = Names::of(self);
        let methods = self.methods.iter().zip(0_u32..);
        let methods = methods.map(|(method, index)| self.call(method, index, &mut names));
        let doc = format!(
            " Calls `{}` from any thread, blocking or `async`; a clone shares the connection.",
            self.name
        );
        quote! {
            #[doc = #doc]
            #[allow(dead_code)]
            #[derive(Clone, Debug)]
            #visibility struct #client {
                channel: #rt::Channel,
            }

            #[allow(dead_code)]
            impl #client {
                /// A client over a channel.
                #[must_use]
                #visibility const fn new(channel: #rt::Channel) -> Self {
                    Self { channel }
                }

                /// A client of the server at `address`, over the engine that all clients of this process share.
                /// Does not wait for the connection.
                ///
                /// # Errors
                /// INVALID_ARGUMENT: the address can't be read; UNAVAILABLE: the engine is overwhelmed or gone.
                #visibility fn connect(
                    address: &str,
                ) -> ::core::result::Result<Self, #rt::Status> {
                    #rt::Channel::connect(address).map(Self::new)
                }

                /// The channel.
                #[must_use]
                #visibility const fn channel(&self) -> &#rt::Channel {
                    &self.channel
                }

                #(#methods)*
            }
        }
    }

    /// The methods that make one call over a channel.
    fn call(&self, method: &Method, index: u32, names: &mut Names) -> TokenStream {
        let (rt, vis, table) = (&self.runtime, &self.visibility, self.table_ident());
        let codec = method.codec.name();
        let (sent, received) = (&method.request.borrowed, &method.response.owned);
        let name = names.method(method);
        let with = names.derived("", method, "_with");
        let lines = self.call_docs(method);
        let with_doc = docs(&[format!("Like [`{name}`](Self::{name}), with options.")]);
        let (options, adapted) = self.options(method);
        let incoming = quote! { #rt::Incoming<#rt::#codec, #received> };
        let outgoing = quote! { #rt::Outgoing<#rt::#codec, #sent> };
        let open = quote! { self.channel.open::<#rt::#codec, #sent, #received> };
        let at = quote! { #table.methods, #index };
        let (takes, passes, output, body) = match method.kind {
            Kind::Unary => (
                quote! { request: &#sent, },
                quote! { request, },
                quote! { #rt::Call<#rt::#codec, #received> },
                quote! {
                    self.channel
                        .call::<#rt::#codec, #sent, #received>(#at, request, #options)
                },
            ),
            Kind::ServerStream => (
                quote! { request: &#sent, },
                quote! { request, },
                incoming,
                quote! { #open(#at, ::core::option::Option::Some(request), true, #options).1 },
            ),
            Kind::ClientStream | Kind::Bidi => (
                quote! {},
                quote! {},
                quote! { (#outgoing, #incoming) },
                quote! { #open(#at, ::core::option::Option::None, false, #options) },
            ),
        };
        quote! {
            #lines
            #vis fn #name(&self, #takes) -> #output {
                self.#with(#passes &#rt::CallOptions::default())
            }

            #with_doc
            #vis fn #with(&self, #takes options: &#rt::CallOptions<'_>) -> #output {
                #adapted
                #body
            }
        }
    }

    /// How a method's body names its options: a method that is known to be idempotent says so.
    fn options(&self, method: &Method) -> (TokenStream, TokenStream) {
        if !method.idempotent {
            return (quote! { options }, quote! {});
        }
        let rt = &self.runtime;
        let adapted = quote! {
            let options = #rt::CallOptions { idempotent: true, ..options.clone() };
        };
        (quote! { &options }, adapted)
    }

    fn call_docs(&self, method: &Method) -> TokenStream {
        let mut lines = method.docs.clone();
        if lines.is_empty() {
            lines.push(format!("Calls `{}`.", self.wire_name(method)));
        }
        docs(&lines)
    }

    fn inline_client(&self) -> TokenStream {
        let Self {
            visibility,
            runtime: rt,
            ..
        } = self;
        let (client, table) = (self.derived("InlineClient"), self.table_ident());
        let mut names = Names::of(self);
        let methods = self.methods.iter().zip(0_u32..);
        let methods = methods.map(|(method, index)| self.inline_call(method, index, &mut names));
        let doc = format!(
            " Calls `{}` on this thread, turning the engine while it waits: the lowest latency.",
            self.name
        );
        quote! {
            #[doc = #doc]
            ///
            /// `C` is an `InlineChannel` or a `&mut` to one that several clients share.
            #[allow(dead_code)]
            #[derive(Debug)]
            #visibility struct #client<C> {
                channel: C,
                first: u32,
            }

            #[allow(dead_code)]
            impl<C: ::core::borrow::BorrowMut<#rt::InlineChannel>> #client<C> {
                /// Agrees with the server on the methods. Blocks for one round trip.
                ///
                /// # Errors
                /// UNIMPLEMENTED or FAILED_PRECONDITION: the server lacks a method, or has it in another shape.
                #visibility fn new(mut channel: C) -> ::core::result::Result<Self, #rt::Status> {
                    let first = channel.borrow_mut().bind(#table.methods)?;
                    ::core::result::Result::Ok(Self { channel, first })
                }

                /// The channel, for its figures and for calls that are started without waiting.
                #visibility fn channel(&mut self) -> &mut #rt::InlineChannel {
                    self.channel.borrow_mut()
                }

                /// Gives the channel back.
                #[must_use]
                #visibility fn into_inner(self) -> C {
                    self.channel
                }

                #(#methods)*
            }
        }
    }

    /// The methods that make one call on the caller's own engine.
    fn inline_call(&self, method: &Method, index: u32, names: &mut Names) -> TokenStream {
        let (rt, vis) = (&self.runtime, &self.visibility);
        let codec = method.codec.name();
        let (sent, received) = (&method.request.borrowed, &method.response.owned);
        let name = names.method(method);
        let with = names.derived("", method, "_with");
        let lines = self.call_docs(method);
        let with_doc = docs(&[format!("Like [`{name}`](Self::{name}), with options.")]);
        let (options, adapted) = self.options(method);
        let response = quote! { #rt::Response<#rt::#codec, #received> };
        let stream = quote! { #rt::InlineStream<'_, #rt::#codec, #sent, #received> };
        let (takes, passes, output, body, more) = match method.kind {
            Kind::Unary => (
                quote! { request: &#sent, },
                quote! { request, },
                response,
                quote! { self.channel.borrow_mut().call(method, request, #options) },
                self.started(method, index, names),
            ),
            Kind::ServerStream => (
                quote! { request: &#sent, },
                quote! { request, },
                stream,
                quote! {
                    #rt::InlineStream::open(
                        self.channel.borrow_mut(),
                        method,
                        ::core::option::Option::Some(request),
                        #options,
                    )
                },
                quote! {},
            ),
            Kind::ClientStream | Kind::Bidi => (
                quote! {},
                quote! {},
                stream,
                quote! {
                    #rt::InlineStream::open(
                        self.channel.borrow_mut(),
                        method,
                        ::core::option::Option::None,
                        #options,
                    )
                },
                quote! {},
            ),
        };
        quote! {
            #lines
            ///
            /// # Errors
            /// The status that the call ended with, or why it could not be made.
            #vis fn #name(
                &mut self,
                #takes
            ) -> ::core::result::Result<#output, #rt::Status> {
                self.#with(#passes &#rt::CallOptions::default())
            }

            #with_doc
            ///
            /// # Errors
            /// The status that the call ended with, or why it could not be made.
            #vis fn #with(
                &mut self,
                #takes
                options: &#rt::CallOptions<'_>,
            ) -> ::core::result::Result<#output, #rt::Status> {
                #adapted
                let method = self.first + #index;
                #body
            }

            #more
        }
    }

    /// A unary call in two halves, so that many may be under way.
    fn started(&self, method: &Method, index: u32, names: &mut Names) -> TokenStream {
        let (rt, vis) = (&self.runtime, &self.visibility);
        let codec = method.codec.name();
        let (sent, received) = (&method.request.borrowed, &method.response.owned);
        let start = names.derived("start_", method, "");
        let finish = names.derived("finish_", method, "");
        let (options, adapted) = self.options(method);
        let wire = self.wire_name(method);
        let start_doc = docs(&[format!(
            "Starts a call of `{wire}` without waiting; [`{finish}`](Self::{finish}) gives its answer."
        )]);
        let finish_doc = docs(&[format!(
            "Waits for the answer of a call that [`{start}`](Self::{start}) began."
        )]);
        quote! {
            #start_doc
            ///
            /// # Errors
            /// Why it could not be started.
            #vis fn #start(
                &mut self,
                request: &#sent,
                options: &#rt::CallOptions<'_>,
            ) -> ::core::result::Result<#rt::CallKey, #rt::Status> {
                #adapted
                self.channel
                    .borrow_mut()
                    .start::<#rt::#codec, #sent>(self.first + #index, request, #options)
            }

            #finish_doc
            ///
            /// # Errors
            /// The status that the call ended with.
            #vis fn #finish(
                &mut self,
                call: #rt::CallKey,
            ) -> ::core::result::Result<#rt::Response<#rt::#codec, #received>, #rt::Status> {
                self.channel.borrow_mut().finish(call).decode()
            }
        }
    }
}
