//! Standard error, written by a thread of its own.
//!
//! Logs and reports of a program that runs are queued here. So a reader that does not read holds up neither a call nor a
//! signal: what does not fit into the queue is dropped, and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::threads;

/// How many bytes wait to be written.
const ROOM: usize = 2 << 20;
/// How many bytes of those may be of other parts of the program than its control: of scripts, networks and libraries.
const SHARED_ROOM: usize = ROOM / 2;
/// How long a standard error that is not read is waited for by what has no other work.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a slow reader is waited for at most as the program ends.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// How long the thread waits where standard error does not block, and takes nothing.
const PAUSE: Duration = Duration::from_millis(10);

static STDERR: OnceLock<Output> = OnceLock::new();

/// Returns the standard error of this process, and starts the thread that writes it the first time.
///
/// # Errors
///
/// If the system refuses a thread.
pub(crate) fn start() -> io::Result<&'static Output> {
    if let Some(output) = started() {
        return Ok(output);
    }
    let output = Output::start(Box::new(io::stderr()))?;
    // If another thread was first, the one that was started here ends.
    Ok(STDERR.get_or_init(|| output))
}

/// Returns the standard error of this process if a thread writes it.
pub(crate) fn started() -> Option<&'static Output> {
    STDERR.get()
}

/// Whose lines these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Importance {
    /// The program's control: that it is ready, reloaded or stopping, and why not. All the room is for these.
    Control,
    /// Everything else, a script among it.
    Other,
}

impl Importance {
    const fn room(self) -> usize {
        match self {
            Self::Control => ROOM,
            Self::Other => SHARED_ROOM,
        }
    }
}

/// What is written by a thread of its own. Dropped, it lets the thread end when all is written.
pub(crate) struct Output {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// The thread waits for lines.
    filled: Condvar,
    /// Others wait until some are written.
    drained: Condvar,
    sink: Mutex<Box<dyn Write + Send>>,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread is writing a line, which is not in the queue any more.
    is_writing: bool,
    /// How many lines were written, or failed to be.
    taken: u64,
    dropped: u64,
    failed: Option<(u64, io::Error)>,
    is_closed: bool,
}

impl Queue {
    fn offer(&mut self, line: &[u8], importance: Importance) {
        if line.len() > importance.room().saturating_sub(self.bytes) {
            self.dropped += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line.to_owned());
    }

    fn is_done(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }
}

impl Output {
    fn start(sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            sink: Mutex::new(sink),
        });
        let writer = Arc::clone(&shared);
        threads::builder("frame-log".to_owned()).spawn(move || writer.work())?;
        Ok(Self { shared })
    }

    /// Has everything written to `sink` from now on: a terminal with a line that stays below what is logged.
    pub(super) fn redirect(&self, sink: Box<dyn Write + Send>) {
        *self.shared.sink.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    /// Queues a line, or drops it if there is no room. Never waits for the reader.
    pub(crate) fn offer(&self, line: &[u8], importance: Importance) {
        self.shared.queue().offer(line, importance);
        self.shared.filled.notify_one();
    }

    /// Queues a text line by line, and waits for room while the reader reads. Not for what has other work to do.
    pub(crate) fn print(&self, text: &str) {
        for line in text.split_inclusive('\n') {
            let queue = self.shared.queue();
            // A line that never fits is not waited for.
            let room = ROOM.saturating_sub(line.len());
            let mut queue = self.shared.wait_while(queue, Duration::MAX, |queue| queue.bytes > room);
            queue.offer(line.as_bytes(), Importance::Control);
            drop(queue);
            self.shared.filled.notify_one();
        }
    }

    /// Waits until everything is written: for as long as the reader reads, but at most five seconds.
    pub(crate) fn flush(&self) {
        drop(self.shared.wait_while(self.shared.queue(), LAST_PATIENCE, |queue| !queue.is_done()));
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.shared.queue().is_closed = true;
        self.shared.filled.notify_one();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the condition does not hold, the reader has not read for [`PATIENCE`], or `most` has passed.
    fn wait_while<'a>(
        &self,
        mut queue: MutexGuard<'a, Queue>,
        most: Duration,
        condition: impl Fn(&Queue) -> bool,
    ) -> MutexGuard<'a, Queue> {
        let began = Instant::now();
        let (mut since, mut taken) = (began, queue.taken);
        while condition(&queue) && began.elapsed() < most {
            let left = PATIENCE.saturating_sub(since.elapsed());
            if left.is_zero() {
                break;
            }
            queue = self.drained.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            if queue.taken != taken {
                (since, taken) = (Instant::now(), queue.taken);
            }
        }
        queue
    }

    fn work(&self) {
        let mut queue = self.queue();
        loop {
            let Some(line) = queue.lines.pop_front() else {
                if queue.is_closed {
                    return;
                }
                queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.is_writing = true;
            drop(queue);
            let written = self.write(&line);
            queue = self.queue();
            queue.is_writing = false;
            queue.bytes -= line.len();
            queue.taken += 1;
            let report = match written {
                Ok(()) if queue.bytes <= SHARED_ROOM / 2 => {
                    Some((std::mem::take(&mut queue.dropped), queue.failed.take()))
                }
                Ok(()) => None,
                Err(error) => {
                    let before = queue.failed.take().map_or(0, |(lines, _)| lines);
                    queue.failed = Some((before + 1, error));
                    None
                }
            };
            if let Some((dropped, failed)) = report
                && (dropped > 0 || failed.is_some())
            {
                drop(queue);
                // As any other event, so that it has the form of the others.
                report_lost(dropped, failed);
                queue = self.queue();
            }
            self.drained.notify_all();
        }
    }

    /// Writes a line as a whole.
    fn write(&self, line: &[u8]) -> io::Result<()> {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = line;
        while !rest.is_empty() {
            match sink.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                // Another program has made the terminal or the pipe that it shares with this one non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        sink.flush()
    }
}

fn report_lost(dropped: u64, failed: Option<(u64, io::Error)>) {
    if dropped > 0 {
        tracing::warn!(lines = dropped, "lines were dropped, because standard error was not read in time");
    }
    if let Some((lines, error)) = failed {
        tracing::warn!(lines, %error, "lines were lost, because standard error could not be written");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A sink that takes one line for each permit.
    struct Gate {
        permits: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(io::Error::other)?;
            self.written.send(bytes.to_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Output, Sender<()>, Receiver<Vec<u8>>) {
        let (permit, permits) = channel();
        let (written, lines) = channel();
        (Output::start(Box::new(Gate { permits, written })).unwrap(), permit, lines)
    }

    #[test]
    fn lines_beyond_the_room_are_dropped_and_counted_and_half_of_it_is_for_control() {
        let (output, permit, lines) = gated();
        let line = vec![b'x'; SHARED_ROOM / 4];
        for _ in 0..10 {
            output.offer(&line, Importance::Other);
        }
        assert_eq!(output.shared.queue().dropped, 6);
        for _ in 0..5 {
            output.offer(&line, Importance::Control);
        }
        assert_eq!(output.shared.queue().dropped, 7);
        for _ in 0..8 {
            permit.send(()).unwrap();
            lines.recv().unwrap();
        }
        output.flush();
        let queue = output.shared.queue();
        assert_eq!((queue.dropped, queue.bytes), (0, 0));
    }

    #[test]
    fn a_flush_ends_although_nothing_is_read() {
        let (output, _permit, _lines) = gated();
        output.offer(b"one\n", Importance::Control);
        output.flush();
        output.print("two\nthree\n");
        let queue = output.shared.queue();
        assert_eq!((queue.lines.len(), queue.is_writing), (2, true));
    }

    #[test]
    fn a_sink_that_fails_loses_its_lines_and_the_thread_goes_on() {
        let (output, permit, lines) = gated();
        drop(lines);
        permit.send(()).unwrap();
        output.offer(b"one\n", Importance::Control);
        output.flush();
        assert_eq!(output.shared.queue().failed.as_ref().map(|(lines, _)| *lines), Some(1));
    }
}
