//! Threads that the program makes as it starts, so that it goes on where the system refuses further ones.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// How many threads of the runtime for what blocks there are from the beginning.
const BLOCKING: usize = 2;
/// How many of them there are at most. They are held by the files of scripts and components.
const MOST_BLOCKING: usize = 256;
/// The stack of each thread that is made here, whatever `RUST_MIN_STACK` says.
const STACK: usize = 2 << 20;
/// How long they wait for further work. One that has ended might not be replaced, and tokio panics where it has none.
const KEEP_ALIVE: Duration = Duration::from_hours(365 * 24);

/// How many processors there are.
pub(crate) fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// How many threads an app uses: those of the runtime, those that compile, those of scripts and their clock, and one each that
/// reads manifests and answers `frame ps`.
fn needed() -> usize {
    processors() + BLOCKING + processors() + processors().max(2) + 1 + 2
}

/// Builds a runtime with a worker for each processor, after a look whether the system allows the threads of an app.
///
/// # Errors
///
/// If the system refuses a thread, or what else a runtime needs.
pub(crate) fn runtime() -> io::Result<Runtime> {
    let threads = needed();
    can_start(threads)
        .map_err(|error| refused(&format!("the {threads} threads that an app needs"), error))?;
    // tokio panics where a worker cannot be started. Other programs may have taken the threads meanwhile.
    catch_unwind(|| -> io::Result<Runtime> {
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(processors())
            .max_blocking_threads(MOST_BLOCKING)
            .thread_keep_alive(KEEP_ALIVE);
        let runtime = builder.thread_stack_size(STACK).enable_all().build()?;
        let gate = Arc::new(Mutex::new(()));
        // No thread is idle before all are there.
        let held = gate.lock();
        for _ in 0..BLOCKING {
            let gate = Arc::clone(&gate);
            runtime.spawn_blocking(move || drop(gate.lock()));
        }
        drop(held);
        Ok(runtime)
    })
    .unwrap_or_else(|panic| Err(io::Error::new(io::ErrorKind::WouldBlock, message_of(&*panic))))
}

/// Says which threads the system has refused, and which limits those are.
pub(crate) fn refused(what: &str, error: io::Error) -> io::Error {
    let message = format!(
        "the system refuses {what}; raise the limit of processes (`ulimit -u`, or `TasksMax=` of systemd) or of memory"
    );
    io::Error::new(error.kind(), ThreadsRefused { message, source: error })
}

/// The system refuses threads.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct ThreadsRefused {
    message: String,
    source: io::Error,
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    message.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// A builder of a thread with a stack of its own size.
pub(crate) fn builder(name: String) -> thread::Builder {
    thread::Builder::new().name(name).stack_size(STACK)
}

/// Looks whether there can be so many more threads at the same time.
pub(crate) fn can_start(threads: usize) -> io::Result<()> {
    let (end, ended) = channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let mut started = Vec::with_capacity(threads);
    let mut result = Ok(());
    for _ in 0..threads {
        let ended = Arc::clone(&ended);
        // An error is the end, too.
        let wait = move || _ = ended.lock().map(|ended| ended.recv());
        match builder("frame-probe".to_owned()).spawn(wait) {
            Ok(thread) => started.push(thread),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    drop(end);
    for thread in started {
        // It does nothing that panics.
        let _ = thread.join();
    }
    result
}

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads for work of the program that blocks. They end when this is dropped, once they have done what
/// they have begun.
///
/// The queue has no bound. What is queued is bounded by who queues it.
#[derive(Debug)]
pub(crate) struct Workers {
    jobs: Sender<Job>,
}

/// The work panicked. The log has the message.
#[derive(Debug, thiserror::Error)]
#[error("it failed by a fault of the program, which the log shows")]
pub(crate) struct Panicked;

impl Workers {
    /// Starts `threads` threads of this name.
    ///
    /// # Errors
    ///
    /// If the system refuses one of them.
    pub(crate) fn start(name: &str, threads: usize) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        // The workers that were started before a refused one end, because the sender is dropped.
        for number in 1..=threads {
            let queue = Arc::clone(&queue);
            builder(format!("{name}-{number}"))
                .spawn(move || work(&queue))
                .map_err(|error| refused(&format!("a thread `{name}`"), error))?;
        }
        Ok(Self { jobs })
    }

    /// Queues `job`, to be run on one of the threads in the context of the current runtime. The future is that of its result.
    ///
    /// # Errors
    ///
    /// If it panics.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job is not run, or its result is dropped where it has begun.
    pub(crate) fn run<T, F>(&self, job: F) -> impl Future<Output = Result<T, Panicked>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let runtime = Handle::try_current().ok();
        let job = Box::new(move || {
            let _entered = runtime.as_ref().map(Handle::enter);
            if !sender.is_closed() {
                let _ = sender.send(job());
            }
        });
        // Where no thread is left to take it, its sender is dropped.
        let _ = self.jobs.send(job);
        async move { receiver.await.map_err(|_| Panicked) }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // The panic hook has shown the message, and the caller is told.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn workers_go_on_after_a_panic() {
        let workers = Workers::start("test", 1).unwrap();
        assert!(workers.run(|| panic!("on purpose")).await.is_err());
        assert_eq!(workers.run(|| 42).await.unwrap(), 42);
    }

    #[test]
    fn a_runtime_has_threads_for_what_blocks_from_the_beginning() {
        let runtime = runtime().unwrap();
        assert_eq!(runtime.block_on(async { tokio::task::spawn_blocking(|| 42).await }).unwrap(), 42);
    }
}
