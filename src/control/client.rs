//! The side of who asks.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::address::{ControlAddress, shown};
use super::protocol::{self, AnswerError, Command, MAX_ANSWER, Process, RunInfo};
use super::server::is_trusted;

/// How long asking may take. A run has more to do than to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Asks the run that has this place what it runs.
///
/// # Errors
///
/// [`AskError::NotRunning`] if nobody has the address, and [`AskError::Failed`] if who has it gives no answer, within ten
/// seconds, or is not to be trusted.
///
/// # Cancel safety
///
/// Dropping the future ends the conversation.
pub(crate) async fn ask(address: &ControlAddress) -> Result<RunInfo<Process>, AskError> {
    let sockets = address.sockets();
    let mut first = None;
    for socket in &sockets {
        let failed = |source| AskError::Failed { socket: socket.clone(), source };
        let asked = match address.check(socket) {
            Ok(()) => timeout(DEADLINE, converse(socket)).await.unwrap_or(Err(AskFailure::Late)),
            Err(error) => Err(AskFailure::NotThere(error)),
        };
        match asked {
            // None was ever there, or it was left by one that was killed.
            Err(AskFailure::NotThere(error)) if is_absent(&error) => (),
            // Another user has this place. The run has the next then.
            Err(error @ (AskFailure::OtherUser(_) | AskFailure::NotThere(_))) => {
                first.get_or_insert(failed(error));
            }
            asked => return asked.map_err(failed),
        }
    }
    Err(first.unwrap_or(AskError::NotRunning { sockets }))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

async fn converse(socket: &PathBuf) -> Result<RunInfo<Process>, AskFailure> {
    let stream = UnixStream::connect(socket).await.map_err(AskFailure::NotThere)?;
    // What it says is shown to people, and acted on.
    let user = stream.peer_cred()?.uid();
    if !is_trusted(user) {
        return Err(AskFailure::OtherUser(user));
    }
    let (reader, mut writer) = stream.into_split();
    writer.write_all(&protocol::request(Command::Ps)).await?;
    let mut answer = Vec::new();
    // One byte more than is allowed, to see that it is too long.
    BufReader::new(reader.take(MAX_ANSWER as u64 + 1)).read_until(b'\n', &mut answer).await?;
    Ok(protocol::parse_answer(&answer)?)
}

/// Nobody could be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// There is no run.
    #[error("it is not running: no process listens at {}", list(.sockets))]
    NotRunning {
        /// Where one would be.
        sockets: Vec<PathBuf>,
    },
    /// There is something, which does not answer as a run does.
    #[error("what is at {} cannot be asked", shown(.socket))]
    Failed {
        /// Where it is.
        socket: PathBuf,
        /// Why.
        source: AskFailure,
    },
}

/// What came of asking was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskFailure {
    #[error("it is of the user {0}, who is not to be trusted")]
    OtherUser(u32),
    /// There is nothing that could be connected to, or it is not safe to do so.
    #[error(transparent)]
    NotThere(io::Error),
    #[error("it has not answered within {} s", DEADLINE.as_secs())]
    Late,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    ResponseMessage(#[from] AnswerError),
}

fn list(sockets: &[PathBuf]) -> String {
    sockets.iter().map(|socket| shown(socket)).collect::<Vec<_>>().join(" or ")
}
