//! Services from Rust traits and messages from Rust structs, for programs whose two ends are both Rust.
//!
//! `ringway` exports both as `#[ringway::service]` and `#[ringway::message]`. What a trait becomes is written by
//! `ringway-codegen`, as for a `.proto`.

#![forbid(unsafe_code)]

mod arguments;
mod message;
mod method;
mod service;

use proc_macro::TokenStream;

/// Makes a service of a trait.
///
/// The trait stays; beside it come, for a trait `Market`, `MarketServer` (an adapter for `Server::builder`),
/// `MarketClient` (any thread, blocking or `async`), `MarketInlineClient` (the lowest latency) and the static `MARKET`.
///
/// ```
/// use ringway::rpc::{CallContext, InlineChannel, Receiver, Sender, Server, Status};
///
/// #[ringway::message]
/// struct Order {
///     price: u64,
///     size: u64,
/// }
///
/// #[ringway::message]
/// struct Fill {
///     size: u64,
/// }
///
/// #[ringway::service(package = "demo")]
/// trait Market {
///     /// A plain function: runs on the engine's thread, reads the request where it was received.
///     fn submit(&self, order: &Order) -> Result<Fill, Status>;
///
///     /// A future on the engine's thread.
///     async fn fills(&self, cx: CallContext, order: Order, out: Sender<Fill>) -> Result<(), Status>;
/// }
///
/// struct Exchange;
///
/// impl Market for Exchange {
///     fn submit(&self, order: &Order) -> Result<Fill, Status> {
///         Ok(Fill { size: order.size })
///     }
///
///     async fn fills(&self, _: CallContext, order: Order, mut out: Sender<Fill>) -> Result<(), Status> {
///         out.send(Fill { size: order.size }).await
///     }
/// }
///
/// let server = Server::builder().service(|| MarketServer::new(Exchange));
/// let server = server.shards(1, &["tcp://127.0.0.1:0"])?;
/// let address = server.addresses()[0].to_string();
/// let mut market = MarketInlineClient::new(InlineChannel::connect(&address)?)?;
/// let fill = market.submit(&Order { price: 100, size: 7 })?;
/// assert_eq!(fill.view()?.size, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Methods
///
/// | shape | parameters after `&self` | returns |
/// |---|---|---|
/// | `fn`, what it returns is the answer | request `&Q` | `Result<R, Status>` |
/// | `fn`, answers itself, or later | request `&Q`, `Reply<'_, R>` | `Result<Replied, Status>` |
/// | `async fn` | request `Q` | `Result<R, Status>` |
/// | `async fn`, the server streams | request `Q`, `Sender<R>` | `Result<(), Status>` |
/// | `async fn`, the client streams | `Receiver<Q>` | `Result<R, Status>` |
/// | `async fn`, both stream | `Receiver<Q>`, `Sender<R>` | `Result<(), Status>` |
///
/// A `CallContext` (`async fn`) or an `&Inline<'_>` (`fn`) may come first. A trait without `async` may take
/// `&mut self`. A method without a request takes `&()` or `()`. On the wire `fill_all` is called `FillAll`.
///
/// # Arguments
///
/// * `package = "name"`: goes before the service's name on the wire. Default none.
/// * `codec = Pod`, `Raw`, `Protobuf` or `Prost`: how messages become bytes. Default: `Raw` for methods whose messages
///   are `&[u8]` and `Vec<u8>`, else `Pod`, for structs with [`macro@message`]. `#[codec(Raw)]` on a method is for it alone.
/// * `crate = path`: where the crate `ringway-rpc` is found. Default `::ringway::rpc`.
///
/// `#[idempotent]` on a method says that calling it twice does what calling it once does.
///
/// A method whose shape is none of those does not compile:
///
/// ```compile_fail
/// #[ringway::service]
/// trait Market {
///     fn submit(&self, order: &u64) -> u64; // returns no `Result<.., Status>`
/// }
/// ```
#[proc_macro_attribute]
pub fn service(arguments: TokenStream, item: TokenStream) -> TokenStream {
    finish(service::expand(arguments.into(), item.into()))
}

/// Makes a message of a struct: what is in memory is what is on the wire.
///
/// The struct becomes `repr(C)`, `Copy` and `bytemuck::Pod`, and gets a fingerprint of its fields: two ends whose
/// structs differ are refused when they connect, not when they misread each other.
///
/// ```
/// #[ringway::message]
/// #[derive(Debug, PartialEq)]
/// struct Tick {
///     price: u64,
///     size: u32,
///     flags: [u8; 4],
/// }
/// ```
///
/// Fields are numbers, arrays of them, and other messages. There must be no padding between or behind them:
///
/// ```compile_fail
/// #[ringway::message]
/// struct Padded {
///     flags: u8,
///     price: u64, // 7 unnamed bytes stand before it
/// }
/// ```
///
/// A type with values that bytes may lack is refused, and one that lies elsewhere:
///
/// ```compile_fail
/// #[ringway::message]
/// struct Unsafe {
///     live: bool,
/// }
/// ```
///
/// ```compile_fail
/// #[ringway::message]
/// struct Elsewhere {
///     name: String,
/// }
/// ```
///
/// `#[ringway::message(crate = path)]` says where the crate `ringway-rpc` is found; default `::ringway::rpc`.
#[proc_macro_attribute]
pub fn message(arguments: TokenStream, item: TokenStream) -> TokenStream {
    finish(message::expand(arguments.into(), item.into()))
}

/// An error stands where the user made it; what could be kept of the item is kept.
fn finish(expanded: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    expanded
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}
