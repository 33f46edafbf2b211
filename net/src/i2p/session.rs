//! A session: the destination of this end on I2P, and the control socket that keeps it.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::deadline::Deadline;
use crate::error::{Cause, DriverError, DriverStep};
use crate::i2p::LocalDestination;
use crate::i2p::bridge::{Bridge, Socket};
use crate::i2p::destination::{Destination, I2pName, PrivateKey};
use crate::i2p::error::SamError;
use crate::i2p::exchange::{Exchange, Request, SamReply, Stage, check, pong};
use crate::i2p::message::{self, Line, Message};

/// A session that stands, or stood. It is over when this is dropped, and with it its connections: who has one of them
/// has this, too.
pub(super) struct Session {
    id: String,
    key: PrivateKey,
    lookups: mpsc::Sender<Lookup>,
    ended: CancellationToken,
    /// Cancelled once there is another way to the bridge than the one that the socket goes.
    way: CancellationToken,
    /// Has the socket.
    _attendant: AbortOnDropHandle<()>,
}

/// A name, and who wants to know what it stands for.
struct Lookup {
    name: I2pName,
    found: oneshot::Sender<Found>,
}

type Found = Result<Destination, Cause>;

/// How many names may wait to be looked up.
const MAX_LOOKUPS: usize = 16;

impl Session {
    /// Creates a session, at the destination that `destination` gives once it is known which way the socket goes. If
    /// there is another way before the session stands, then it starts over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends what there is of it.
    pub(super) async fn create(
        bridge: &Bridge,
        destination: impl Fn() -> LocalDestination,
    ) -> Result<Arc<Self>, DriverError> {
        let deadline = Deadline::after(bridge.config.session_deadline);
        let failed = |cause| DriverError::new(DriverStep::Sam(Stage::Session), &bridge.config.sam, cause);
        loop {
            let (mut socket, way) = bridge.connect(deadline).await?;
            // It ties everything together that it is heard with, so it is used on one way only.
            let id = session_id().map_err(|error| failed(Cause::Io(error)))?;
            let destination = destination();
            let request =
                Request::Session { id: &id, destination: &destination, options: &bridge.config.options };
            let exchange = tokio::select! {
                biased;
                asked = bridge.ask(&mut socket, request, deadline) => asked?,
                () = way.cancelled() => continue,
            };
            let SamReply::Session(key) = bridge.outcome(exchange)? else {
                return Err(failed(Cause::from(SamError::SessionEnded)));
            };
            let ended = CancellationToken::new();
            let (lookups, asked) = mpsc::channel(MAX_LOOKUPS);
            let attendant = attend(socket, asked, bridge.config.deadline, ended.clone().drop_guard());
            let attendant = AbortOnDropHandle::new(tokio::spawn(attendant));
            return Ok(Arc::new(Self { id, key, lookups, ended, way, _attendant: attendant }));
        }
    }

    /// What the bridge calls it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The keys of its destination.
    pub(super) const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Cancelled once there is another way to the bridge than the one that it was created on.
    pub(super) const fn way(&self) -> &CancellationToken {
        &self.way
    }

    /// Whether nothing more is to be done in it: it is over, or there is another way to the bridge. On that one it
    /// would tell the bridge that both are of the same client. Its connections go on.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled() || self.way.is_cancelled()
    }

    /// Waits until it [has](Self::has_ended).
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = self.way.cancelled() => {}
        }
    }

    /// Takes it for over: the bridge does not know it any more.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Makes a request about it, on a socket that goes the same way as its own.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket.
    pub(super) async fn ask<'a>(
        &self,
        bridge: &Bridge,
        request: Request<'a>,
        deadline: Deadline,
    ) -> Result<(Socket, Exchange<'a>), DriverError> {
        let (mut socket, _) = bridge.connect(deadline).await?;
        // Not before now is it certain which way that was.
        if self.way.is_cancelled() {
            let cause = Cause::from(SamError::SessionEnded);
            return Err(DriverError::new(DriverStep::Connect, &bridge.config.sam, cause));
        }
        let exchange = bridge.ask(&mut socket, request, deadline).await?;
        Ok((socket, exchange))
    }

    /// What `name` stands for. Names are looked up one after the other. The session is over if the bridge leaves one
    /// without an answer, as it would all that come after it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer.
    pub(super) async fn look_up(&self, name: I2pName) -> Found {
        let (found, answer) = oneshot::channel();
        let asked = self.lookups.send(Lookup { name, found }).await;
        asked.map_err(|_| SamError::SessionEnded)?;
        answer.await.unwrap_or_else(|_| Err(Cause::from(SamError::SessionEnded)))
    }
}

/// Whoever waits for what the bridge was asked for, and until when it may answer.
struct Asking {
    found: oneshot::Sender<Found>,
    deadline: Deadline,
}

impl Asking {
    fn answer(self, found: Found) {
        // Whoever asked may not want to know any more.
        let _ = self.found.send(found);
    }

    /// Waits until the bridge has taken too long.
    async fn overdue(asking: Option<&Self>) -> Cause {
        match asking {
            None => pending().await,
            Some(asking) => asking.deadline.timeout(pending::<Cause>()).await.unwrap_or_else(|cause| cause),
        }
    }
}

/// Attends to the socket of a session until it is closed, the bridge is out of step, or nobody has the session any
/// more. The bridge has as long as `limit` for each answer.
async fn attend(mut socket: Socket, mut lookups: mpsc::Receiver<Lookup>, limit: Duration, _ended: DropGuard) {
    let mut control = Control::default();
    let mut asking: Option<Asking> = None;
    loop {
        let heard = control.receive(&socket.unread);
        socket.unread.clear();
        if let Some((asking, found)) = control.found().and_then(|found| Some((asking.take()?, found))) {
            asking.answer(found.map_err(Cause::from));
        }
        if let Err(error) = heard {
            if let Some(asking) = asking {
                asking.answer(Err(Cause::from(error)));
            }
            return;
        }
        let output = control.output();
        if !output.is_empty() && socket.send(&output).await.is_err() {
            return;
        }
        tokio::select! {
            received = socket.receive() => if !matches!(received, Ok(1..)) { return },
            cause = Asking::overdue(asking.as_ref()) => {
                if let Some(asking) = asking {
                    asking.answer(Err(cause));
                }
                return;
            }
            lookup = lookups.recv(), if control.is_idle() => match lookup {
                None => return,
                Some(Lookup { name, found }) if !found.is_closed() => {
                    control.look_up(name);
                    asking = Some(Asking { found, deadline: Deadline::after(limit) });
                }
                Some(_) => {}
            },
        }
    }
}

/// Answers a bridge that asks whether anybody is there, and asks it for names, one after the other: bridges do not
/// read a request before the last one is answered.
///
/// What the bridge says and nobody asked for is ignored. While it is asked for a name, what cannot be read or is about
/// another name is the end: it may have been the answer, and there would be no other.
#[derive(Default)]
struct Control {
    line: Line,
    output: Vec<u8>,
    /// The name that is being looked up.
    asked: Option<I2pName>,
    found: VecDeque<Result<Destination, SamError>>,
}

impl Control {
    /// Whether a name may be asked for.
    fn is_idle(&self) -> bool {
        self.asked.is_none()
    }

    /// Asks for `name`.
    fn look_up(&mut self, name: I2pName) {
        self.output.extend(format!("NAMING LOOKUP NAME={name}\n").into_bytes());
        self.asked = Some(name);
    }

    /// What is to be sent now.
    fn output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// What became of the name that was asked for.
    fn found(&mut self) -> Option<Result<Destination, SamError>> {
        self.found.pop_front()
    }

    /// Takes all of `input`.
    ///
    /// # Errors
    ///
    /// If the session is over: the bridge says so, or does not keep to the protocol.
    fn receive(&mut self, mut input: &[u8]) -> Result<(), SamError> {
        while !input.is_empty() {
            let taken = self.line.take(input);
            let (len, line) =
                taken.map_err(|message::TooLong| SamError::LineTooLong { max: message::MAX_LEN })?;
            input = &input[len..];
            if let Some(line) = line {
                self.hear(&line)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self, line: &[u8]) -> Result<(), SamError> {
        if let Some(pong) = pong(line) {
            self.output.extend(pong);
            return Ok(());
        }
        let message = match Message::parse(line) {
            Ok(message) => message,
            Err(_) if self.is_idle() => return Ok(()),
            Err(error) => return Err(SamError::from(error)),
        };
        match message.topic().as_str() {
            "SESSION STATUS" => check(&message, "SESSION STATUS"),
            "NAMING REPLY" => {
                let Some(asked) = &self.asked else { return Ok(()) };
                if message.get("NAME")?.is_some_and(|name| name != asked.as_str()) {
                    return Err(SamError::Malformed("it is about another name"));
                }
                self.asked = None;
                self.found.push_back(destination(&message));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What a `NAMING REPLY` says.
fn destination(reply: &Message<'_>) -> Result<Destination, SamError> {
    check(reply, "NAMING REPLY")?;
    let value = reply.get("VALUE")?.ok_or(SamError::Malformed("there is no destination in it"))?;
    Ok(value.parse()?)
}

/// Returns an id for a session that no other session has, and that cannot be guessed.
fn session_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("frame-{}", data_encoding::HEXLOWER.encode(&bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::i2p::error::SamRefusal;

    fn name(text: &str) -> I2pName {
        I2pName::new(&text.parse().unwrap()).unwrap()
    }

    fn value() -> String {
        // 387 bytes of zero.
        "A".repeat(516)
    }

    #[test]
    fn it_answers_whether_anybody_is_there() {
        let mut control = Control::default();
        control.receive(b"PING\nPING are you  there\nPINGU\n").unwrap();
        assert_eq!(control.output(), b"PONG\nPONG are you  there\n");
        assert!(control.output().is_empty() && control.found().is_none());
    }

    #[test]
    fn it_looks_names_up_and_does_not_mix_them_up() {
        let mut control = Control::default();
        control.receive(format!("NAMING REPLY RESULT=OK NAME=a.i2p VALUE={}\n", value()).as_bytes()).unwrap();
        assert!(control.found().is_none(), "nobody asked");
        control.look_up(name("a.i2p"));
        assert_eq!(control.output(), b"NAMING LOOKUP NAME=a.i2p\n");
        control.receive(b"NAMING REPLY RESULT=KEY_NOT_FOUND NAME=a.i2p\n").unwrap();
        assert!(control.is_idle());
        let error = control.found().unwrap().unwrap_err();
        assert!(error.is_refusal(&SamRefusal::KeyNotFound));
        control.look_up(name("a.i2p"));
        control.receive(format!("NAMING REPLY RESULT=OK NAME=a.i2p VALUE={}\n", value()).as_bytes()).unwrap();
        assert_eq!(control.found().unwrap().unwrap().to_string(), value());
        control.look_up(name("a.i2p"));
        control.receive(b"NAMING REPLY RESULT=OK NAME=a.i2p VALUE=abc\n").unwrap();
        assert!(matches!(control.found().unwrap(), Err(SamError::Destination(_))));
    }

    #[test]
    fn what_may_have_been_the_answer_and_is_none_is_the_end() {
        let of_another = format!("NAMING REPLY RESULT=OK NAME=b.i2p VALUE={}\n", value());
        let unclosed = "NAMING REPLY RESULT=KEY_NOT_FOUND NAME=a.i2p MESSAGE=\"oh\n";
        let of_both = "NAMING REPLY RESULT=KEY_NOT_FOUND NAME=a.i2p NAME=b.i2p\n";
        for line in [of_another.as_bytes(), unclosed.as_bytes(), of_both.as_bytes(), b"\xff\n"] {
            let mut control = Control::default();
            control.receive(line).unwrap();
            assert!(control.found().is_none(), "nobody asked");
            control.look_up(name("a.i2p"));
            control.receive(b"WHAT EVER\nPING\n").unwrap();
            let error = control.receive(line).unwrap_err();
            assert!(matches!(error, SamError::Malformed(_)), "{error:?}");
            assert!(control.found().is_none());
        }
    }

    #[test]
    fn a_session_that_the_bridge_ends_is_over() {
        let mut control = Control::default();
        control.receive(b"SESSION STATUS RESULT=OK\nWHAT EVER\n\xff\n\n").unwrap();
        let error = control.receive(b"SESSION STATUS RESULT=I2P_ERROR MESSAGE=\"going down\"\n").unwrap_err();
        assert!(error.to_string().ends_with("; it says: going down"), "{error}");
        let endless = vec![b'x'; message::MAX_LEN + 1];
        assert!(matches!(Control::default().receive(&endless), Err(SamError::LineTooLong { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(input in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "(NAMING REPLY|SESSION STATUS|PING)( (RESULT|NAME|VALUE|A)=?(OK|a.i2p|\"|\\\\|A)?){0,5}\n?"
                .prop_map(String::into_bytes),
        ]) {
            let mut control = Control::default();
            control.look_up(name("a.i2p"));
            let _ = control.receive(&input);
        }
    }

    #[test]
    fn session_ids_are_words_of_their_own() {
        let (first, second) = (session_id().unwrap(), session_id().unwrap());
        assert_ne!(first, second);
        assert!(first.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{first}");
    }
}
