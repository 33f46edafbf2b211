//! WebSockets (RFC 6455) that take the network of a frame.
//!
//! [`HttpClient::websocket`](super::HttpClient::websocket) takes the [`Dialer`](crate::Dialer) of a frame, as
//! [`send`](super::HttpClient::send) does. There is no way to connect without one.
//!
//! ```standalone_crate
//! use frame_net::http::websocket::{CloseFrame, Message, WebSocketRequest};
//! use frame_net::http::{HttpClient, HttpConfig};
//! use frame_net::{NetConfig, dialer};
//! use frame_registry::{App, FrameBuilder, FrameResolvers, Options, ResolveContext};
//! use serde_json::json;
//! # use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! # use frame_net::{BoxFuture, BoxStream, DriverError, Endpoint, IsolationKey, Network};
//! #
//! # /// A network with one server, which echoes text.
//! # struct Shop;
//! #
//! # impl Network for Shop {
//! #     fn kind(&self) -> &'static str {
//! #         "shop"
//! #     }
//! #
//! #     fn connect<'a>(
//! #         &'a self,
//! #         _: &'a Endpoint,
//! #         _: Option<&'a IsolationKey>,
//! #     ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
//! #         let (client, server) = tokio::io::duplex(1024);
//! #         tokio::spawn(serve(server));
//! #         Box::pin(async { Ok(Box::new(client) as BoxStream) })
//! #     }
//! # }
//! #
//! # async fn serve(mut stream: tokio::io::DuplexStream) {
//! #     use futures_util::{SinkExt as _, StreamExt as _};
//! #     use sha1::{Digest as _, Sha1};
//! #     use tokio_tungstenite::WebSocketStream;
//! #     use tokio_tungstenite::tungstenite::protocol::Role;
//! #
//! #     let mut head = Vec::new();
//! #     while !head.ends_with(b"\r\n\r\n") {
//! #         head.push(stream.read_u8().await.unwrap());
//! #     }
//! #     let head = String::from_utf8(head).unwrap();
//! #     let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
//! #     let hash = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
//! #     let accept = data_encoding::BASE64.encode(&hash);
//! #     let head = format!(
//! #         "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
//! #     );
//! #     stream.write_all(head.as_bytes()).await.unwrap();
//! #     let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
//! #     while let Some(Ok(message)) = socket.next().await {
//! #         if message.is_text() {
//! #             socket.send(message).await.unwrap();
//! #         }
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut app = App::builder();
//! # app.set_resolvers(FrameResolvers::linked())?;
//! # let networks = frame_net::boot(&mut app, NetConfig::default())?;
//! # networks.register("app:shop".parse()?, std::sync::Arc::new(Shop))?;
//! # let app = app.build();
//! let client = HttpClient::new(HttpConfig::default())?;
//!
//! let options = Options::from_json(&json!({ "network": "app:shop" }))?;
//! let mut frame = FrameBuilder::new();
//! app.resolvers().resolve(&ResolveContext::new(&app, None), &options, frame.pairs_mut())?;
//! let dialer = dialer(&frame.seal(), &app)?;
//!
//! let mut socket = client.websocket(&dialer, WebSocketRequest::new("ws://shop.internal/")?).await?;
//! socket.send("hello").await?;
//! assert_eq!(socket.receive().await?, Some(Message::Text("hello".to_owned())));
//! socket.close(CloseFrame::normal()).await?;
//! assert_eq!(socket.receive().await?, None);
//! # Ok(())
//! # }
//! ```
//!
//! # What goes through which connection
//!
//! Each WebSocket has a connection of its own, over HTTP/1.1, which no other request ever uses. It is made as those of other
//! requests are: through the dialer's network, held to its rules, with the trust and the client certificates that the
//! client's settings have for the server. It counts for the dialer's unit as long as it is open. A redirect is not
//! followed. No extension is offered, so nothing is compressed. If the network is replaced or unregistered, the connection
//! stays until it is closed.
//!
//! # Limits
//!
//! [`WebSocketConfig`] limits the size of messages and frames, and the time of a closing handshake. The limits of the client
//! for time, headers and their size apply to the opening handshake. In both directions, the faster side waits for the slower one,
//! and nothing piles up: about 64 KiB of messages wait to be received, and one message at a time is written. If the
//! program does not receive and the server does not read, both wait. A program that sends much should receive meanwhile,
//! or give its sends a timeout.
//!
//! Frames that bring the program nothing cost time of the processor that no caller is charged with: pings, pongs, and
//! fragments of fewer than 16 bytes that do not end a message. A server may send a thousand of them at once, and a hundred
//! per second. Each message allows 16 more, and each ping of the client one. Beyond that the connection is closed with 1008,
//! and the error is [`WebSocketError::Flooded`].

mod driver;
mod error;
mod message;
mod request;
mod socket;
mod transport;

pub use self::error::{HandshakeError, Violation, WebSocketError};
pub use self::message::{CloseFrame, Message};
pub use self::request::WebSocketRequest;
pub use self::socket::{WebSocket, WebSocketReceiver, WebSocketSender};
pub use crate::http::config::WebSocketConfig;
