//! The sockets around what is said to a bridge.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::deadline::Deadline;
use crate::error::{Cause, DriverError, DriverStep};
use crate::i2p::I2pConfig;
use crate::i2p::error::SamError;
use crate::i2p::exchange::{Action, Exchange, Request, SamReply, Stage};
use crate::network::BoxStream;
use crate::proxy::Via;

/// Where a bridge is, and how to get there.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) config: I2pConfig,
    pub(super) via: Via,
}

/// A socket of a bridge.
pub(super) struct Socket {
    pub(super) stream: BoxStream,
    /// What was received and is not used yet. There may be a private key in it.
    pub(super) unread: Zeroizing<Vec<u8>>,
    /// How long the bridge may take to read what it is sent.
    patience: Duration,
}

impl Bridge {
    /// Opens a socket. The token is cancelled once there is another way to the bridge than the one that it goes.
    pub(super) async fn connect(
        &self,
        deadline: Deadline,
    ) -> Result<(Socket, CancellationToken), DriverError> {
        let (stream, way) = self.via.connect_watched(&self.config.sam, deadline).await?;
        let (unread, patience) = (Zeroizing::default(), self.config.deadline);
        Ok((Socket { stream, unread, patience }, way))
    }

    /// Makes a request on a new socket, and waits for the answer. With [`Request::Accept`] that is the one that says
    /// that a connection is waited for now.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the socket is to be closed.
    pub(super) async fn ask<'a>(
        &self,
        socket: &mut Socket,
        request: Request<'a>,
        deadline: Deadline,
    ) -> Result<Exchange<'a>, DriverError> {
        let I2pConfig { sam, credentials, .. } = &self.config;
        let mut exchange = Exchange::new(request, credentials.as_ref());
        let asked = deadline.timeout(socket.ask(&mut exchange)).await.and_then(|asked| asked);
        asked.map_err(|cause| DriverError::new(DriverStep::Sam(exchange.stage()), sam, cause))?;
        Ok(exchange)
    }

    /// What came of an exchange that is over.
    pub(super) fn outcome(&self, exchange: Exchange<'_>) -> Result<SamReply, DriverError> {
        let step = DriverStep::Sam(exchange.stage());
        let outcome = exchange.into_outcome().unwrap_or(Err(SamError::SessionEnded));
        outcome.map_err(|error| DriverError::new(step, &self.config.sam, Cause::from(error)))
    }
}

impl Socket {
    /// Goes on until there is an outcome, or a connection is waited for.
    async fn ask(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Cause> {
        while exchange.action() != Action::Finish && exchange.stage() != Stage::Incoming {
            self.act(exchange).await?;
        }
        Ok(())
    }

    /// Does what is to be done next.
    ///
    /// # Cancel safety
    ///
    /// Of a future that was dropped nobody knows how much was sent: the socket is to be closed. Nothing that was
    /// received is lost.
    pub(super) async fn act(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Cause> {
        match exchange.action() {
            Action::Send(bytes) => {
                self.send(bytes).await?;
                exchange.sent();
            }
            Action::Receive => {
                if self.unread.is_empty() && self.receive().await? == 0 {
                    return Err(Cause::Closed);
                }
                let taken = exchange.receive(&self.unread);
                self.unread.drain(..taken);
            }
            Action::Finish => {}
        }
        Ok(())
    }

    /// Sends all of `bytes`, unless the bridge takes too long to read them.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let stream = &mut self.stream;
        let send = async {
            stream.write_all(bytes).await?;
            // A network in between may gather what it is given.
            stream.flush().await
        };
        Ok(Deadline::after(self.patience).timeout(send).await??)
    }

    /// Receives something, and says how much; 0 if the bridge has closed the socket.
    pub(super) async fn receive(&mut self) -> std::io::Result<usize> {
        const AT_ONCE: usize = 4096;
        self.unread.reserve(AT_ONCE);
        self.stream.read_buf(&mut *self.unread).await
    }
}
