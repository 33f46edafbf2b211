//! The task that reads and writes a connection: it answers pings and notices the end, whatever the program does meanwhile.

use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard, PollSemaphore};
use tungstenite::protocol::{Role, WebSocketConfig as Protocol};

use super::error::SocketFault;
use super::message::{CloseFrame, Message};
use super::transport::Transport;
use crate::audit::End as RecordEnd;
use crate::http::secret::SentSecret;
use crate::network::BoxStream;
use crate::secrets::SecretId;

/// How much is read at once.
const READ_BUFFER: usize = 16 << 10;

/// How many bytes wait for the program before no more is read, and what a message counts beside its own.
const QUEUE: u32 = 64 << 10;
const MESSAGE_OVERHEAD: u32 = 64;

/// Room for answers to pings, beside a message.
const CONTROL: usize = 16 << 10;

/// What a connection may carry, and how long it may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) max_message: usize,
    pub(crate) max_frame: usize,
    pub(crate) close_limit: Duration,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) pong_limit: Duration,
}

/// A message to send, and whom to tell that it was written.
pub(crate) struct OutgoingMessage {
    pub(crate) message: Message,
    pub(crate) written: oneshot::Sender<()>,
}

/// A message that was received, with the room that it takes in the queue. The last one may have none.
pub(crate) struct IncomingMessage {
    pub(crate) message: Message,
    _room: Option<OwnedSemaphorePermit>,
}

/// How a connection has ended.
#[derive(Debug, Clone)]
pub(crate) enum SocketEnd {
    /// With a closing handshake, and what the server said in it.
    Closed(Option<CloseFrame>),
    Failed(SocketFault),
}

/// The driver's end of the channels to those who use the connection.
pub(crate) struct DriverChannels {
    pub(crate) outgoing: mpsc::Receiver<OutgoingMessage>,
    pub(crate) closes: mpsc::Receiver<CloseFrame>,
    pub(crate) incoming: mpsc::UnboundedSender<IncomingMessage>,
    pub(crate) end: Arc<OnceLock<SocketEnd>>,
    /// Tells those who wait for the end.
    pub(crate) ended: DropGuard,
    /// What must not come back from the server.
    pub(crate) secret: Option<SentSecret>,
}

/// Reads and writes a connection.
pub(crate) struct Driver {
    socket: tungstenite::WebSocket<Transport>,
    bounds: Bounds,
    phase: DriverPhase,
    /// Whether something was handed to the protocol and may not have been written yet.
    is_unflushed: bool,
    /// Whom to tell once it has been.
    written: Option<oneshot::Sender<()>>,
    outgoing: mpsc::Receiver<OutgoingMessage>,
    closes: mpsc::Receiver<CloseFrame>,
    /// Closed once the connection has ended.
    incoming: Option<mpsc::UnboundedSender<IncomingMessage>>,
    room: PollSemaphore,
    /// A message that was received and has no room in the queue. Nothing is read until it has.
    held: Option<Message>,
    /// Until when the phase may last.
    deadline: Option<Instant>,
    next_ping: Option<Instant>,
    /// Until when something must be received, after a ping.
    pong_until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    end: Arc<OnceLock<SocketEnd>>,
    ended: Option<DropGuard>,
    secret: Option<SentSecret>,
}

enum DriverPhase {
    Open,
    /// The program closes the connection. The frame is sent once all before it has been.
    Closing(Option<CloseFrame>),
    /// How it ended is known. What is left to write is written, and if the handshake is complete the server closes first:
    /// RFC 6455, section 7.1.1.
    Ended {
        is_clean: bool,
    },
    /// The stream is shut down.
    ShuttingDown,
}

/// Whether there may be more to do at once.
type Progress = bool;

/// What was done, or nothing if it has to wait.
fn attempted<T>(result: tungstenite::Result<T>) -> tungstenite::Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Driver {
    /// Of `stream`, on which `received` has arrived already.
    pub(crate) fn new(stream: BoxStream, received: &Bytes, bounds: Bounds, wires: DriverChannels) -> Self {
        let protocol = Protocol::default()
            .read_buffer_size(READ_BUFFER)
            // What is handed over is written at once.
            .write_buffer_size(0)
            .max_write_buffer_size(bounds.max_message.saturating_add(CONTROL))
            .max_message_size(Some(bounds.max_message))
            .max_frame_size(Some(bounds.max_frame));
        let (transport, received) = (Transport::new(stream, received), received.to_vec());
        let (role, now) = (Role::Client, Instant::now());
        let socket = tungstenite::WebSocket::from_partially_read(transport, received, role, Some(protocol));
        let room = Semaphore::new(usize::try_from(QUEUE).unwrap_or(usize::MAX));
        let DriverChannels { outgoing, closes, incoming, end, ended, secret } = wires;
        Self {
            socket,
            bounds,
            phase: DriverPhase::Open,
            is_unflushed: false,
            written: None,
            outgoing,
            closes,
            incoming: Some(incoming),
            room: PollSemaphore::new(Arc::new(room)),
            held: None,
            deadline: None,
            next_ping: bounds.ping_interval.and_then(|interval| now.checked_add(interval)),
            pong_until: None,
            timer: Box::pin(tokio::time::sleep_until(now)),
            end,
            ended: Some(ended),
            secret,
        }
    }

    /// Runs until the connection has ended, or until `unused` is cancelled because the program has dropped the socket.
    pub(crate) async fn run(mut self, unused: CancellationToken) {
        let driven = unused.run_until_cancelled(poll_fn(|cx| self.poll(cx))).await;
        if driven.is_none() {
            poll_fn(|cx| {
                self.leave(cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Says that the connection is closed, as far as that takes no time.
    fn leave(&mut self, cx: &mut Context<'_>) {
        self.socket.get_mut().begin(cx);
        if self.socket.can_write() {
            let _ = self.socket.close(Some(CloseFrame::going_away().into_protocol()));
        }
        let _ = self.socket.get_mut().poll_shutdown(cx);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.socket.get_mut().begin(cx);
        loop {
            while self.poll_closes(cx) | self.poll_write(cx) | self.poll_read(cx) {}
            if matches!(self.phase, DriverPhase::ShuttingDown)
                && self.socket.get_mut().poll_shutdown(cx).is_ready()
            {
                return Poll::Ready(());
            }
            self.note_life();
            let timers = [self.deadline, self.next_ping, self.pong_until];
            let Some(next) = timers.into_iter().flatten().min() else { return Poll::Pending };
            if self.timer.deadline() != next {
                self.timer.as_mut().reset(next);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.passed(Instant::now()).is_break() {
                return Poll::Ready(());
            }
        }
    }

    /// Begins to close the connection if the program asked for it.
    fn poll_closes(&mut self, cx: &mut Context<'_>) -> Progress {
        if !matches!(self.phase, DriverPhase::Open) {
            return false;
        }
        let Poll::Ready(Some(frame)) = self.closes.poll_recv(cx) else { return false };
        self.phase = DriverPhase::Closing(Some(frame));
        self.stop_sending();
        self.deliver(None);
        true
    }

    /// Writes what is to be written, one after the other: a message when all before it has been written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Progress {
        if self.is_unflushed {
            match attempted(self.socket.flush()) {
                Ok(None) => return false,
                Ok(Some(())) => self.is_unflushed = false,
                Err(error) => return self.reported(error),
            }
            if let Some(written) = self.written.take() {
                let _ = written.send(());
            }
        }
        let handed = match &mut self.phase {
            DriverPhase::Open => {
                let Poll::Ready(Some(OutgoingMessage { message, written })) = self.outgoing.poll_recv(cx)
                else {
                    return false;
                };
                self.written = Some(written);
                self.socket.write(message.into_protocol())
            }
            DriverPhase::Closing(frame) => {
                let Some(frame) = frame.take() else { return false };
                self.socket.close(Some(frame.into_protocol()))
            }
            DriverPhase::Ended { is_clean: true } | DriverPhase::ShuttingDown => return false,
            DriverPhase::Ended { is_clean: false } => {
                self.phase = DriverPhase::ShuttingDown;
                return true;
            }
        };
        self.handed(handed)
    }

    /// Something was handed to the protocol.
    fn handed(&mut self, result: tungstenite::Result<()>) -> Progress {
        self.is_unflushed = true;
        match attempted(result) {
            Ok(_) => true,
            Err(error) => self.reported(error),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Progress {
        if matches!(self.phase, DriverPhase::Ended { is_clean: false } | DriverPhase::ShuttingDown) {
            return false;
        }
        if let Some(message) = &self.held {
            let bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
            let bytes = bytes.saturating_add(MESSAGE_OVERHEAD).min(QUEUE);
            let Poll::Ready(Some(room)) = self.room.poll_acquire_many(cx, bytes) else { return false };
            self.deliver(Some(room));
            // An answer to a ping was not read while the message was held.
            self.pong_until = None;
            return true;
        }
        match attempted(self.socket.read()) {
            Ok(None) => false,
            Ok(Some(message)) => {
                self.received(message);
                true
            }
            Err(error) => self.reported(error),
        }
    }

    /// Puts the message that is held into the queue.
    fn deliver(&mut self, room: Option<OwnedSemaphorePermit>) {
        if let (Some(message), Some(incoming)) = (self.held.take(), &self.incoming) {
            // The receiver may have been dropped, and then no message is missed.
            let _ = incoming.send(IncomingMessage { message, _room: room });
        }
    }

    fn received(&mut self, message: tungstenite::Message) {
        use tungstenite::Message as Received;
        let is_open = matches!(self.phase, DriverPhase::Open);
        if let Some(id) = self.echoed(&message) {
            self.fail(SocketFault::Echoed { id });
            return;
        }
        match message {
            Received::Text(text) if is_open => self.held = Some(Message::Text(text.as_str().to_owned())),
            Received::Binary(bytes) if is_open => self.held = Some(Message::Binary(detached(bytes))),
            // The protocol has an answer to write.
            Received::Ping(_) => self.is_unflushed = true,
            Received::Close(frame) => {
                self.is_unflushed = true;
                self.finish(SocketEnd::Closed(frame.as_ref().map(CloseFrame::of_protocol)));
                self.phase = DriverPhase::Ended { is_clean: true };
            }
            // What arrives while the connection is being closed is not received.
            Received::Text(_) | Received::Binary(_) | Received::Pong(_) | Received::Frame(_) => {}
        }
    }

    /// The protocol reports an error.
    fn reported(&mut self, error: tungstenite::Error) -> Progress {
        use tungstenite::Error as Reported;
        let is_ended = matches!(self.phase, DriverPhase::Ended { .. } | DriverPhase::ShuttingDown);
        if is_ended || matches!(error, Reported::ConnectionClosed | Reported::AlreadyClosed) {
            self.phase = DriverPhase::ShuttingDown;
            return true;
        }
        self.fail(SocketFault::of(error));
        true
    }

    /// The secret of the handshake, if its value is in what the server sends.
    fn echoed(&self, message: &tungstenite::Message) -> Option<SecretId> {
        use tungstenite::Message as Received;
        let text = match message {
            Received::Text(text) => text.as_bytes(),
            Received::Binary(bytes) => bytes,
            Received::Close(frame) => frame.as_ref()?.reason.as_bytes(),
            Received::Ping(_) | Received::Pong(_) | Received::Frame(_) => return None,
        };
        let sent = self.secret.as_ref().filter(|sent| sent.secret.is_in(text))?;
        sent.recording.end_as(RecordEnd::Withheld);
        Some(sent.secret.id().clone())
    }

    /// Ends the connection, and tells the server why if that can be told.
    fn fail(&mut self, fault: SocketFault) {
        let code = fault.code().filter(|_| self.socket.can_write());
        self.finish(SocketEnd::Failed(fault));
        self.phase = match code {
            Some(code) => {
                // What comes of it is of no interest.
                let _ = self.socket.close(Some(CloseFrame::of_code(code).into_protocol()));
                self.is_unflushed = true;
                DriverPhase::Ended { is_clean: false }
            }
            None => DriverPhase::ShuttingDown,
        };
    }

    /// Tells all who use the connection how it has ended.
    fn finish(&mut self, end: SocketEnd) {
        // First, as those who wait ask for it.
        let _ = self.end.set(end);
        self.stop_sending();
        self.deliver(None);
        (self.incoming, self.written, self.ended) = (None, None, None);
    }

    /// Takes no more to send. From now on the closing handshake has its limit.
    fn stop_sending(&mut self) {
        self.outgoing.close();
        while self.outgoing.try_recv().is_ok() {}
        (self.next_ping, self.pong_until) = (None, None);
        self.deadline = self.deadline.or_else(|| Instant::now().checked_add(self.bounds.close_limit));
    }

    /// Notes that the server is there: something was received, or more of a message was taken.
    fn note_life(&mut self) {
        let transport = self.socket.get_mut();
        let (has_received, has_sent) = (transport.take_received(), transport.take_sent());
        if has_received || (has_sent && self.written.is_some()) {
            self.pong_until = None;
        }
    }

    /// A timer has passed. Breaks if the connection is to be dropped.
    fn passed(&mut self, now: Instant) -> ControlFlow<()> {
        let has_passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if has_passed(self.deadline) {
            // If how it ended is known, this changes nothing.
            self.finish(SocketEnd::Failed(SocketFault::CloseTimedOut { limit: self.bounds.close_limit }));
            return ControlFlow::Break(());
        }
        if has_passed(self.pong_until) {
            self.finish(SocketEnd::Failed(SocketFault::PongTimedOut { limit: self.bounds.pong_limit }));
            return ControlFlow::Break(());
        }
        if has_passed(self.next_ping) {
            self.next_ping = self.bounds.ping_interval.and_then(|interval| now.checked_add(interval));
            // While a message is held, no answer is read.
            if self.held.is_none() && self.pong_until.is_none() {
                self.pong_until = now.checked_add(self.bounds.pong_limit);
            }
            // A message that cannot be written is as good as a ping.
            if !self.is_unflushed {
                self.socket.get_mut().expect_pong();
                let handed = self.socket.write(tungstenite::Message::Ping(Bytes::new()));
                self.handed(handed);
            }
        }
        ControlFlow::Continue(())
    }
}

/// The bytes by themselves. Small messages share the buffer that they were read into, and would keep all of it.
fn detached(bytes: Bytes) -> Bytes {
    if bytes.len() < READ_BUFFER { Bytes::copy_from_slice(&bytes) } else { bytes }
}
