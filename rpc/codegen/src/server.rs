//! The server's half: a trait that the user implements, and the adapter that makes a `Service` of it.

use proc_macro2::TokenStream;
use quote::quote;

use crate::service::{Form, Kind, Method, Service, docs};

impl Service {
    /// The trait that a server implements.
    #[must_use]
    pub fn server_trait(&self) -> TokenStream {
        let Self {
            visibility, ident, ..
        } = self;
        let adapter = self.derived("Server");
        let mut lines = self.docs.clone();
        if lines.is_empty() {
            lines.push(format!(
                "The service `{}`, as its server is written.",
                self.name
            ));
        }
        lines.push(String::new());
        lines.push(format!(
            "[`{adapter}`] makes a service of what implements it."
        ));
        let lines = docs(&lines);
        let methods = self.methods.iter().map(|method| self.signature(method));
        quote! {
            #lines
            #visibility trait #ident {
                #(#methods)*
            }
        }
    }

    fn signature(&self, method: &Method) -> TokenStream {
        let rt = &self.runtime;
        let Method { ident, .. } = method;
        let mut lines = method.docs.clone();
        if lines.is_empty() {
            lines.push(format!("Handles a call of `{}`.", self.wire_name(method)));
        }
        let lines = docs(&lines);
        let (request, response) = (&method.request, &method.response);
        let (owned, view) = (&request.owned, &request.view);
        let (answer, sent) = (&response.owned, &response.borrowed);
        if method.form != Form::Async {
            let receiver = if self.is_plain() {
                quote! { &mut self }
            } else {
                quote! { &self }
            };
            return quote! {
                #lines
                fn #ident(
                    #receiver,
                    call: &#rt::Inline<'_>,
                    request: #view,
                    reply: #rt::Reply<'_, #sent>,
                ) -> ::core::result::Result<#rt::Replied, #rt::Status>;
            };
        }
        let (parameters, output) = match method.kind {
            Kind::Unary => (quote! { request: #owned }, answer.clone()),
            Kind::ServerStream => (
                quote! { request: #owned, responses: #rt::Sender<#sent> },
                quote! { () },
            ),
            Kind::ClientStream => (quote! { requests: #rt::Receiver<#owned> }, answer.clone()),
            Kind::Bidi => (
                quote! { requests: #rt::Receiver<#owned>, responses: #rt::Sender<#sent> },
                quote! { () },
            ),
        };
        quote! {
            #lines
            fn #ident(
                &self,
                cx: #rt::CallContext,
                #parameters,
            ) -> impl ::core::future::Future<
                Output = ::core::result::Result<#output, #rt::Status>,
            >;
        }
    }

    /// The type that makes a `Service` of an implementation of the trait.
    #[must_use]
    pub fn adapter(&self) -> TokenStream {
        let Self {
            visibility,
            ident,
            runtime: rt,
            ..
        } = self;
        let (adapter, table) = (self.derived("Server"), self.table_ident());
        let shared = !self.is_plain();
        let (field, keep) = if shared {
            (
                quote! { ::std::rc::Rc<T> },
                quote! { ::std::rc::Rc::new(handler) },
            )
        } else {
            (quote! { T }, quote! { handler })
        };
        let arms = self.methods.iter().enumerate();
        let arms = arms.map(|(index, method)| {
            let arm = self.arm(method);
            quote! { #index => #arm, }
        });
        let doc = format!(" Serves `{}` by what implements [`{ident}`].", self.name);
        let name = adapter.to_string();
        quote! {
            #[doc = #doc]
            #[allow(dead_code)]
            #visibility struct #adapter<T> {
                handler: #field,
            }

            #[allow(dead_code)]
            impl<T: #ident + 'static> #adapter<T> {
                /// The service of one engine thread; the builder of a server takes a function that makes it.
                #visibility fn new(handler: T) -> Self {
                    Self { handler: #keep }
                }
            }

            impl<T> ::core::fmt::Debug for #adapter<T> {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.debug_struct(#name).finish_non_exhaustive()
                }
            }

            impl<T: #ident + 'static> #rt::Service for #adapter<T> {
                fn info(&self) -> &'static #rt::ServiceInfo {
                    &#table
                }

                fn call(&mut self, call: #rt::IncomingCall<'_, '_>) {
                    match call.method() {
                        #(#arms)*
                        _ => call.unimplemented(),
                    }
                }
            }
        }
    }

    fn arm(&self, method: &Method) -> TokenStream {
        let (rt, service) = (&self.runtime, &self.ident);
        let ident = &method.ident;
        let codec = method.codec.name();
        let (request, response) = (&method.request, &method.response);
        let (owned, sent) = (&request.owned, &response.borrowed);
        let answer = &response.owned;
        if method.form != Form::Async {
            let seen = &request.borrowed;
            // A service of plain functions alone owns its handler, the others share it.
            let handler = if self.is_plain() {
                quote! { &mut self.handler }
            } else {
                quote! { &self.handler }
            };
            let info = method.context.then(|| quote! { call, });
            let view = if method.by_reference {
                quote! { &request }
            } else {
                quote! { request }
            };
            let body = if method.form == Form::Plain {
                quote! { T::#ident(handler, #info #view, reply) }
            } else {
                quote! { reply.send(&T::#ident(handler, #info #view)?) }
            };
            let call = if method.context {
                quote! { call }
            } else {
                quote! { _call }
            };
            return quote! {
                {
                    let handler = #handler;
                    call.inline::<#rt::#codec, #seen, #sent>(|#call, request, reply| #body)
                }
            };
        }
        let (form, types, arguments) = match method.kind {
            Kind::Unary => ("unary", quote! { #owned, #answer }, quote! { request }),
            Kind::ServerStream => (
                "server_stream",
                quote! { #owned, #sent },
                quote! { request, responses },
            ),
            Kind::ClientStream => (
                "client_stream",
                quote! { #owned, #answer },
                quote! { requests },
            ),
            Kind::Bidi => (
                "bidi",
                quote! { #owned, #sent },
                quote! { requests, responses },
            ),
        };
        let form = crate::ident(form);
        let cx = if method.context {
            quote! { cx }
        } else {
            quote! { _cx }
        };
        let passed = method.context.then(|| quote! { cx, });
        quote! {
            {
                let handler = ::std::rc::Rc::clone(&self.handler);
                call.#form::<#rt::#codec, #types, _>(move |#cx, #arguments| async move {
                    <T as #service>::#ident(&*handler, #passed #arguments).await
                })
            }
        }
    }
}
