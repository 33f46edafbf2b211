//! What a program has of a connection.

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::driver::{Bounds, Driver, DriverChannels, IncomingMessage, OutgoingMessage, SocketEnd};
use super::error::{SocketFault, WebSocketError};
use super::message::{CloseFrame, Message};
use crate::http::error::{HttpError, Peer};
use crate::http::secret::SentSecret;
use crate::network::BoxStream;
use crate::secrets::SecretError;

/// A WebSocket, from [`HttpClient::websocket`](crate::http::HttpClient::websocket).
///
/// A task in the background reads and writes it. Pings are answered whether or not the program receives messages, until
/// about 64 KiB of messages wait: then no more is read, and the server has to wait, which it may take for the end.
///
/// Dropping it closes the connection at once, and tells the server so with 1001 if that can be written without waiting.
/// [`close`](Self::close) waits until all that was sent has arrived.
#[derive(Debug)]
pub struct WebSocket {
    sender: WebSocketSender,
    receiver: WebSocketReceiver,
    headers: HeaderMap,
    subprotocol: Option<String>,
}

impl WebSocket {
    /// Of `stream`, on which `beyond` has arrived after the head of the response, which has these headers.
    pub(crate) fn new(
        stream: BoxStream,
        beyond: &bytes::Bytes,
        peer: Peer,
        bounds: Bounds,
        headers: HeaderMap,
        subprotocol: Option<String>,
        secret: Option<SentSecret>,
    ) -> Self {
        let (outgoing, outgoing_end) = mpsc::channel(1);
        let (closes, closes_end) = mpsc::channel(1);
        let (incoming_end, incoming) = mpsc::unbounded_channel();
        let (unused, ended, end) = (CancellationToken::new(), CancellationToken::new(), Arc::default());
        let wires = DriverChannels {
            outgoing: outgoing_end,
            closes: closes_end,
            incoming: incoming_end,
            end: Arc::clone(&end),
            ended: ended.clone().drop_guard(),
            secret,
        };
        let driver = Driver::new(stream, beyond, bounds, wires);
        tokio::spawn(driver.run(unused.clone()));
        let shared = Arc::new(SharedSocket { peer, bounds, end, ended, _used: unused.drop_guard() });
        let receiver = WebSocketReceiver { shared: Arc::clone(&shared), incoming };
        Self { sender: WebSocketSender { shared, outgoing, closes }, receiver, headers, subprotocol }
    }

    /// The server, and what is between it and us.
    pub fn peer(&self) -> &Peer {
        &self.sender.shared.peer
    }

    /// The subprotocol that the server selected among those that were
    /// [offered](super::WebSocketRequest::subprotocol).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The headers of the response to the handshake.
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Sends a message: see [`WebSocketSender::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocketSender::send`].
    ///
    /// # Errors
    ///
    /// As [`WebSocketSender::send`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), WebSocketError> {
        self.sender.send(message).await
    }

    /// Receives the next message: see [`WebSocketReceiver::receive`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocketReceiver::receive`].
    ///
    /// # Errors
    ///
    /// As [`WebSocketReceiver::receive`].
    pub async fn receive(&mut self) -> Result<Option<Message>, WebSocketError> {
        self.receiver.receive().await
    }

    /// Closes the connection: see [`WebSocketSender::close`].
    ///
    /// # Cancel safety
    ///
    /// As [`WebSocketSender::close`].
    ///
    /// # Errors
    ///
    /// As [`WebSocketSender::close`].
    pub async fn close(&self, frame: CloseFrame) -> Result<Option<CloseFrame>, WebSocketError> {
        self.sender.close(frame).await
    }

    /// What the server said to close the connection, or to confirm that it is closed, if it has and gave a code.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.receiver.close_frame()
    }

    /// Two halves, for tasks of their own. The connection is closed when both have been dropped.
    pub fn split(self) -> (WebSocketSender, WebSocketReceiver) {
        (self.sender, self.receiver)
    }
}

/// Sends over a WebSocket. Clones send over the same one.
#[derive(Debug, Clone)]
pub struct WebSocketSender {
    shared: Arc<SharedSocket>,
    outgoing: mpsc::Sender<OutgoingMessage>,
    closes: mpsc::Sender<CloseFrame>,
}

impl WebSocketSender {
    /// Sends a message, and waits until the network has taken all of it. There is no limit of time: a server that does not
    /// read may take as long as it likes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves open whether the message is sent. Half a message never is.
    ///
    /// # Errors
    ///
    /// [`WebSocketError::MessageTooLarge`] if the message has more than
    /// [`max_message`](super::WebSocketConfig::max_message) bytes. [`WebSocketError::Closed`] if the connection is closed or
    /// being closed. Otherwise why it failed, which each call returns from then on.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), WebSocketError> {
        let SharedSocket { peer, bounds, .. } = &*self.shared;
        let message = message.into();
        if message.len() > bounds.max_message {
            let limit = u64::try_from(bounds.max_message).unwrap_or(u64::MAX);
            return Err(WebSocketError::MessageTooLarge { peer: peer.clone(), limit });
        }
        let (written, is_written) = oneshot::channel();
        let sent = self.outgoing.send(OutgoingMessage { message, written }).await;
        if sent.is_err() || is_written.await.is_err() {
            return Err(self.shared.error());
        }
        Ok(())
    }

    /// Closes the connection after what is being sent, and waits for the server to confirm it. Returns what the server said,
    /// if it gave a code. What the server sends after this call is not received.
    ///
    /// If the connection is closed already, the same is returned as by the call that closed it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: the connection is closed.
    ///
    /// # Errors
    ///
    /// [`WebSocketError::CloseTimedOut`] if the server did not confirm it within
    /// [`close_limit`](super::WebSocketConfig::close_limit), and otherwise why the connection failed. It is closed anyway.
    pub async fn close(&self, frame: CloseFrame) -> Result<Option<CloseFrame>, WebSocketError> {
        // If there is no room, or it has ended, it is closed by another call already.
        let _ = self.closes.try_send(frame);
        self.shared.ended.cancelled().await;
        match self.shared.end() {
            SocketEnd::Closed(frame) => Ok(frame),
            SocketEnd::Failed(fault) => Err(self.shared.failed(fault)),
        }
    }
}

/// Receives from a WebSocket.
#[derive(Debug)]
pub struct WebSocketReceiver {
    shared: Arc<SharedSocket>,
    incoming: mpsc::UnboundedReceiver<IncomingMessage>,
}

impl WebSocketReceiver {
    /// Receives the next message. `None` means that the connection was closed in an orderly way, and that all messages
    /// before that were received.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    ///
    /// # Errors
    ///
    /// Why the connection failed, after the messages before that. Each call returns it from then on.
    pub async fn receive(&mut self) -> Result<Option<Message>, WebSocketError> {
        match self.incoming.recv().await {
            Some(incoming) => Ok(Some(incoming.message)),
            None => match self.shared.end() {
                SocketEnd::Closed(_) => Ok(None),
                SocketEnd::Failed(fault) => Err(self.shared.failed(fault)),
            },
        }
    }

    /// What the server said to close the connection, if it has and gave a code.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        match self.shared.end.get() {
            Some(SocketEnd::Closed(frame)) => frame.as_ref(),
            _ => None,
        }
    }
}

struct SharedSocket {
    peer: Peer,
    bounds: Bounds,
    end: Arc<OnceLock<SocketEnd>>,
    ended: CancellationToken,
    /// Ends the task.
    _used: DropGuard,
}

impl SharedSocket {
    /// How the connection has ended, which it has.
    fn end(&self) -> SocketEnd {
        let runtime = || SocketEnd::Failed(SocketFault::broken("the runtime has shut down"));
        self.end.get().cloned().unwrap_or_else(runtime)
    }

    /// Why nothing can be sent.
    fn error(&self) -> WebSocketError {
        let frame = match self.end.get() {
            Some(SocketEnd::Failed(fault)) => return self.failed(fault.clone()),
            Some(SocketEnd::Closed(frame)) => frame.clone(),
            None => None,
        };
        WebSocketError::Closed { peer: self.peer.clone(), frame }
    }

    fn failed(&self, fault: SocketFault) -> WebSocketError {
        let peer = self.peer.clone();
        match fault {
            SocketFault::Broken(source) => WebSocketError::Broken { peer, source },
            SocketFault::Violation(source) => WebSocketError::Protocol { peer, source },
            SocketFault::NotUtf8 => WebSocketError::NotUtf8 { peer },
            SocketFault::TooLarge { limit } => {
                let setting = if limit < self.bounds.max_message { "max_frame" } else { "max_message" };
                let limit = u64::try_from(limit).unwrap_or(u64::MAX);
                WebSocketError::ReceivedTooLarge { peer, limit, setting }
            }
            SocketFault::Flooded => WebSocketError::Flooded { peer },
            SocketFault::Echoed { id } => {
                HttpError::from(SecretError::Echoed { id, from: peer.endpoint }).into()
            }
            SocketFault::PongTimedOut { limit } => WebSocketError::PongTimedOut { peer, limit },
            SocketFault::CloseTimedOut { limit } => WebSocketError::CloseTimedOut { peer, limit },
        }
    }
}

impl fmt::Debug for SharedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSocket")
            .field("peer", &self.peer)
            .field("end", &self.end.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::network::Route;

    fn pair() -> (WebSocket, DuplexStream) {
        let (client, server) = tokio::io::duplex(1 << 20);
        let peer = Peer { endpoint: "h:80".parse().unwrap(), route: Route::Clearnet };
        let bounds = Bounds {
            max_message: 1 << 20,
            max_frame: 1 << 20,
            close_limit: Duration::from_secs(5),
            ping_interval: None,
            pong_limit: Duration::from_secs(5),
        };
        let socket = WebSocket::new(
            Box::new(client),
            &bytes::Bytes::new(),
            peer,
            bounds,
            HeaderMap::new(),
            None,
            None,
        );
        (socket, server)
    }

    /// More than waits for a program. The second one is held.
    async fn send_two(server: &mut DuplexStream) {
        const LEN: u16 = 60_000;
        let [high, low] = LEN.to_be_bytes();
        let frame = [&[0x82, 126, high, low][..], &vec![7; usize::from(LEN)][..]].concat();
        server.write_all(&frame.repeat(2)).await.unwrap();
        // The task has its turn, several if it likes.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn assert_receives_two(socket: &mut WebSocket) {
        for _ in 0..2 {
            assert_eq!(socket.receive().await.unwrap().unwrap().len(), 60_000);
        }
    }

    #[tokio::test]
    async fn a_message_that_is_held_is_received_after_a_failure() {
        let (mut socket, mut server) = pair();
        send_two(&mut server).await;
        drop(server);
        socket.send("x").await.unwrap_err();
        assert_receives_two(&mut socket).await;
        socket.receive().await.unwrap_err();
    }

    #[tokio::test]
    async fn a_message_that_is_held_is_received_after_the_program_has_closed() {
        let (mut socket, mut server) = pair();
        send_two(&mut server).await;
        server.write_all(&[0x88, 0]).await.unwrap();
        assert_eq!(socket.close(CloseFrame::normal()).await.unwrap(), None);
        assert_receives_two(&mut socket).await;
        assert_eq!(socket.receive().await.unwrap(), None);
    }
}
