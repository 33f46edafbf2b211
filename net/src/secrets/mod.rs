//! Secrets that requests carry, and that the code which makes the requests never sees.
//!
//! An app has secrets in a [`SecretStore`], each with the servers that it may be sent to. A frame has the ids of those that
//! its unit may use, by the option [`SECRETS`]. A request [names](crate::http::Request::secret) one, and the
//! client adds the header when it writes the request to the connection. Nothing above that has the value.
//!
//! ```standalone_crate
//! use frame_net::http::{HttpClient, HttpConfig, HttpError, Request};
//! use frame_net::secrets::{SECRET_STORE, SecretError, SecretStore, StoredSecret};
//! use frame_net::{NetConfig, dialer};
//! use frame_registry::{App, FrameBuilder, FrameResolvers, Options, ResolveContext};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let stripe = StoredSecret::new("sk_live_31337", ["api.stripe.com".parse()?])?;
//! let mut app = App::builder();
//! app.set_resolvers(FrameResolvers::linked())?;
//! app.set(&SECRET_STORE, [("app:stripe".parse()?, stripe)].into_iter().collect::<SecretStore>())?;
//! frame_net::boot(&mut app, NetConfig::default())?;
//! let app = app.build();
//!
//! let options = Options::from_json(&json!({ "secrets": ["app:stripe"] }))?;
//! let mut frame = FrameBuilder::new();
//! app.resolvers().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut())?;
//! let dialer = dialer(&frame.seal(), &app)?;
//!
//! // Nothing is sent to a server that the secret is not for.
//! let client = HttpClient::new(HttpConfig::default())?;
//! let request = Request::get("https://elsewhere.example/")?.secret("app:stripe".parse()?);
//! let error = client.send(&dialer, request).await.unwrap_err();
//! assert!(matches!(error, HttpError::Secret(SecretError::Host { .. })));
//! # Ok(())
//! # }
//! ```
//!
//! # What holds
//!
//! - The header is sent over TLS only, to a server that has proven its name, and that is one of the secret's
//!   [hosts](SecretHost). Otherwise the request is refused before a connection is made.
//! - A redirect takes it along only within the origin: the same scheme, host and port. Where a redirect leads elsewhere the
//!   request is sent on without it, and it does not come back.
//! - A proxy does not see it: to it, the request is inside TLS. HTTP/2 does not keep it in its compression tables.
//! - A request that has the header itself is refused, and so is a `TRACE`, which servers answer with the request. A
//!   [default header](crate::http::DefaultHeader) of that name is not added.
//! - A response that has the value in its head, body or trailers is refused with [`SecretError::Echoed`], and so is a
//!   message of a WebSocket. No part of the value is passed on. While the body of a response is read, the end of its last line
//!   is held back until more has come: about as many bytes as the value has.
//! - No error, log line or `Debug` shows it. Where a library puts what a server says into an error, and the value is in
//!   that, the error is replaced.
//!
//! # What does not hold
//!
//! A server that has the secret can give it to whom it likes. If it sends the value back in another form (encoded, in parts,
//! reversed), or to a later request without the secret, the client cannot tell. So `hosts` should name servers that do not
//! repeat the headers of requests. What a unit does with a secret is not limited: one that may use a key may use it for all that
//! the server allows.
//!
//! Native code is trusted. It can replace the store, or give the client a [configuration of
//! TLS](crate::http::Trust::Custom) that checks no certificates.

mod config;
mod echo;
mod error;
mod host;
mod option;
mod secret;
mod source;
mod store;
mod template;

pub use self::config::SecretConfig;
pub(crate) use self::echo::{EchoGuard, Found};
pub use self::error::SecretError;
pub use self::host::{SecretHost, SecretHostError};
pub use self::option::{SECRETS, SECRETS_KEY, SecretGrantError, SecretId, SecretIds, SecretKind, secrets};
pub use self::secret::{SecretValueError, StoredSecret};
pub use self::source::{SecretSource, SecretSourceError};
pub(crate) use self::store::Granted;
pub use self::store::{SECRET_STORE, SecretStore};
pub use self::template::TemplateError;
