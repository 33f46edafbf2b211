//! The signal that interrupts scripts, in programs that use signals, forks and threads themselves. Each test runs in a process
//! of its own, whose main thread it has: the program starts itself with the test's name.

#[cfg(unix)]
fn main() {
    unix::main();
}

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
mod unix {
    use std::cell::Cell;
    use std::env;
    use std::io::{self, Write};
    use std::pin::pin;
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};
    use std::thread;
    use std::time::{Duration, Instant};

    use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaModule, ModuleBuilder, mlua};
    use frame_dispatch::{CallContext, CallError, ErrorKind, Functions, Payload, PoolConfig, Task};
    use frame_registry::{App, Options};
    use serde_json::json;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::{Notify, Semaphore};

    const TESTS: [(&str, fn()); 11] = [
        ("a_handler_of_the_host_is_called_too", a_handler_of_the_host_is_called_too),
        ("a_signal_of_the_host_does_no_harm", a_signal_of_the_host_does_no_harm),
        ("no_signal_is_sent_while_nothing_runs", no_signal_is_sent_while_nothing_runs),
        ("only_the_thread_of_a_script_is_signalled", only_the_thread_of_a_script_is_signalled),
        ("host_code_that_blocks_goes_on_after_a_signal", host_code_that_blocks_goes_on_after_a_signal),
        ("a_fork_runs_scripts_with_deadlines", a_fork_runs_scripts_with_deadlines),
        ("a_fork_beside_a_running_script_does_not_hang", a_fork_beside_a_running_script_does_not_hang),
        ("threads_end_while_they_are_signalled", threads_end_while_they_are_signalled),
        ("a_script_that_runs_as_its_thread_ends", a_script_that_runs_as_its_thread_ends),
        ("thousands_of_vms_wait_without_a_signal", thousands_of_vms_wait_without_a_signal),
        ("thousands_of_vms_are_interrupted", thousands_of_vms_are_interrupted),
    ];

    /// Names the test that a process runs.
    const TEST: &str = "FRAME_SIGNALS_TEST";

    /// Far more than any test takes, or any child of one that is told to have many.
    const GENEROUS: Duration = Duration::from_mins(20);
    const GENEROUS_FOR_A_CHILD: Duration = Duration::from_mins(1);

    pub(super) fn main() {
        if let Ok(name) = env::var(TEST) {
            let (_, test) = TESTS.iter().find(|(other, _)| *other == name).expect("the name of a test");
            return test();
        }
        let filters: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let mut failed = 0;
        for (name, _) in TESTS {
            if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
                continue;
            }
            print!("test {name} ... ");
            io::stdout().flush().unwrap();
            let outcome = run(name);
            println!("{}", if outcome.is_ok() { "ok" } else { "FAILED" });
            if let Err(output) = outcome {
                println!("{output}");
                failed += 1;
            }
        }
        assert_eq!(failed, 0, "tests failed");
    }

    fn run(name: &str) -> Result<(), String> {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(TEST, name).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + GENEROUS;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() >= until {
                child.kill().unwrap();
                let output = child.wait_with_output().unwrap();
                return Err(format!("it hangs\n{}", String::from_utf8_lossy(&output.stderr)));
            }
            thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }

    // What the tests use -----------------------------------------------------------------------------------------

    /// How many signals the process has received.
    static ALL: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        /// How many the current thread has received.
        static HERE: Cell<usize> = const { Cell::new(0) };
    }

    fn all() -> usize {
        ALL.load(Ordering::SeqCst)
    }

    /// Counts the signals from now on, as a handler that a program installs before it makes an engine.
    #[allow(unsafe_code)]
    fn count_signals() {
        extern "C" fn count(_: libc::c_int) {
            ALL.fetch_add(1, Ordering::SeqCst);
            HERE.set(HERE.get() + 1);
        }
        // SAFETY: The action is initialised, and its handler only adds to numbers.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = count as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()), 0);
        }
    }

    /// An app with one script, `app:script`, and what runs it.
    struct Script {
        functions: Functions,
        runtime: Runtime,
    }

    impl Script {
        fn new(source: &str) -> Self {
            Self::with_engine(&LuaEngine::builder().build().unwrap(), source)
        }

        fn with_engine(engine: &LuaEngine, source: &str) -> Self {
            let function = engine.function("script", source, LuaConfig::default()).unwrap();
            let functions = Functions::new(App::builder().build());
            functions.register("app:script".parse().unwrap(), Options::new(), function).unwrap();
            Self { functions, runtime: Builder::new_current_thread().enable_time().build().unwrap() }
        }

        fn call(&self, ctx: &CallContext, payload: impl Into<Payload>) -> Result<Payload, CallError> {
            self.runtime.block_on(ctx.call(Task::new("app:script".parse().unwrap()).with_payload(payload)))
        }

        /// Runs it for as long as `time` allows.
        fn spin(&self, time: Duration) {
            let ctx = self.functions.root().with_timeout(time);
            let error = self.call(&ctx, json!(null)).expect_err("it runs forever");
            assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
        }
    }

    const ENDLESS: &str = "while true do end";
    const SHORT: Duration = Duration::from_millis(20);

    // Tests ------------------------------------------------------------------------------------------------------

    fn a_handler_of_the_host_is_called_too() {
        count_signals();
        let script = Script::new(ENDLESS);
        while all() < 5 {
            script.spin(SHORT);
        }
    }

    #[allow(unsafe_code)]
    fn a_signal_of_the_host_does_no_harm() {
        count_signals();
        let script = Script::new("local sum = 0 for i = 1, 300000 do sum = sum + i end return sum");
        // SAFETY: They have no requirements; the main thread waits for the one that sends.
        let main = unsafe { libc::pthread_self() };
        let is_done = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&is_done);
        let sender = thread::spawn(move || {
            while !is_stopped.load(Ordering::SeqCst) {
                // SAFETY: As above.
                unsafe { libc::pthread_kill(main, libc::SIGURG) };
                thread::sleep(Duration::from_micros(50));
            }
        });
        for _ in 0..20 {
            let result = script.call(&script.functions.root(), json!(null)).unwrap();
            assert_eq!(result, json!(45_000_150_000_u64).into());
            // Outside of a script, too.
            thread::sleep(Duration::from_millis(1));
        }
        is_done.store(true, Ordering::SeqCst);
        sender.join().unwrap();
        assert!(all() > 0);
    }

    fn no_signal_is_sent_while_nothing_runs() {
        count_signals();
        let engine = LuaEngine::builder().build().unwrap();
        thread::sleep(SHORT);
        assert_eq!(all(), 0, "an engine alone sends none");
        let script = Script::with_engine(&engine, ENDLESS);
        while all() == 0 {
            script.spin(SHORT);
        }
        // The clock has ticks left before it parks, in which it must not signal either.
        let before = all();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(all(), before, "signals were sent while nothing ran");
        while all() == before {
            script.spin(SHORT);
        }
    }

    fn only_the_thread_of_a_script_is_signalled() {
        count_signals();
        let is_done = Arc::new(AtomicBool::new(false));
        // Some of these have run scripts before.
        let others: Vec<_> = [true, false]
            .into_iter()
            .map(|has_run| {
                let is_done = Arc::clone(&is_done);
                let (ready, is_ready) = std::sync::mpsc::channel();
                let thread = thread::spawn(move || {
                    if has_run {
                        Script::new(ENDLESS).spin(SHORT);
                    }
                    let before = HERE.get();
                    ready.send(()).unwrap();
                    while !is_done.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(1));
                    }
                    assert_eq!(HERE.get(), before, "a thread that runs no script was signalled");
                });
                is_ready.recv().unwrap();
                thread
            })
            .collect();
        let script = Script::new(ENDLESS);
        let (before, began) = (all(), Instant::now());
        while HERE.get() < 50 {
            script.spin(Duration::from_millis(200));
        }
        let (signals, milliseconds) = (all() - before, began.elapsed().as_millis());
        assert_eq!(signals, HERE.get(), "all came to this thread");
        assert!(signals as u128 <= milliseconds + 2, "{signals} signals in {milliseconds} ms");
        is_done.store(true, Ordering::SeqCst);
        for thread in others {
            thread.join().unwrap();
        }
    }

    /// A module whose functions block.
    struct Blocking;

    impl LuaModule for Blocking {
        fn name(&self) -> &'static str {
            "blocking"
        }

        #[allow(unsafe_code)]
        fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
            module.function("sleep", |_, _, milliseconds: u64| {
                let began = Instant::now();
                thread::sleep(Duration::from_millis(milliseconds));
                assert!(began.elapsed() >= Duration::from_millis(milliseconds), "it slept too short");
                Ok(())
            })?;
            // A system call that a signal interrupts, and that the kernel begins anew.
            module.function("read", |_, _, signals: usize| {
                let mut ends = [0; 2];
                // SAFETY: The array has room for two descriptors.
                assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
                let [read, write] = ends;
                let enough = all() + signals;
                let writer = thread::spawn(move || {
                    while all() < enough {
                        thread::sleep(Duration::from_millis(1));
                    }
                    // SAFETY: The descriptor is open, and the byte is there.
                    assert_eq!(unsafe { libc::write(write, b"x".as_ptr().cast(), 1) }, 1);
                });
                let mut byte = 0_u8;
                // SAFETY: The descriptor is open, and there is room for a byte.
                let count = unsafe { libc::read(read, (&raw mut byte).cast(), 1) };
                assert_eq!((count, byte), (1, b'x'), "{}", io::Error::last_os_error());
                writer.join().unwrap();
                // SAFETY: Nothing else uses them.
                unsafe { (libc::close(read), libc::close(write)) };
                Ok(())
            })
        }
    }

    fn host_code_that_blocks_goes_on_after_a_signal() {
        count_signals();
        let engine = LuaEngine::builder().module(Blocking).build().unwrap();
        let source = "blocking.read(5) for _ = 1, 5 do blocking.sleep(10) end blocking.read(5) return 'read'";
        let script = Script::with_engine(&engine, source);
        assert_eq!(script.call(&script.functions.root(), json!(null)).unwrap(), json!("read").into());
        assert!(all() >= 10);
    }

    /// Runs `child` in a fork and waits for it.
    #[allow(unsafe_code)]
    fn fork(child: impl FnOnce()) {
        // SAFETY: The child runs on the only thread that it has, and leaves without running what the parent set up.
        unsafe {
            match libc::fork() {
                -1 => panic!("{}", io::Error::last_os_error()),
                0 => {
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
                    libc::_exit(outcome.is_err().into());
                }
                pid => {
                    let mut status = 0;
                    let until = Instant::now() + GENEROUS_FOR_A_CHILD;
                    while libc::waitpid(pid, &raw mut status, libc::WNOHANG) == 0 {
                        if Instant::now() >= until {
                            libc::kill(pid, libc::SIGKILL);
                            panic!("the child hangs");
                        }
                        thread::sleep(Duration::from_millis(1));
                    }
                    assert_eq!(status, 0, "the child failed");
                }
            }
        }
    }

    fn a_fork_runs_scripts_with_deadlines() {
        // Before the clock runs, while it ticks, and when it is parked.
        let script = Script::new(ENDLESS);
        fork(|| script.spin(SHORT));
        script.spin(SHORT);
        fork(|| {
            script.spin(SHORT);
            fork(|| script.spin(SHORT));
            Script::new(ENDLESS).spin(SHORT);
        });
        thread::sleep(Duration::from_millis(200));
        fork(|| script.spin(SHORT));
        script.spin(SHORT);
    }

    fn a_fork_beside_a_running_script_does_not_hang() {
        let is_done = Arc::new(AtomicBool::new(false));
        let spinning: Vec<_> = (0..2)
            .map(|_| {
                let is_done = Arc::clone(&is_done);
                thread::spawn(move || {
                    let script = Script::new(ENDLESS);
                    while !is_done.load(Ordering::SeqCst) {
                        script.spin(SHORT);
                    }
                })
            })
            .collect();
        let script = Script::new(ENDLESS);
        let forks = env::var("FRAME_SIGNALS_FORKS").map_or(40, |number| number.parse().unwrap());
        for round in 0..forks {
            script.spin(Duration::from_millis(2));
            fork(|| {
                // Every other child runs nothing; both have locals of the thread that are destroyed.
                if round % 2 == 0 {
                    script.spin(Duration::from_millis(5));
                }
                std::process::exit(0);
            });
        }
        is_done.store(true, Ordering::SeqCst);
        for thread in spinning {
            thread.join().unwrap();
        }
    }

    fn threads_end_while_they_are_signalled() {
        let engine = LuaEngine::builder().build().unwrap();
        for round in 0..100 {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let engine = engine.clone();
                    thread::spawn(move || {
                        let script = Script::with_engine(&engine, ENDLESS);
                        // It ends as soon as its slice does, which is when it was signalled.
                        script.spin(Duration::from_micros(1000 + round * 10));
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        }
    }

    fn a_script_that_runs_as_its_thread_ends() {
        struct AtExit(Option<Functions>);

        impl AtExit {
            fn new() -> Self {
                let engine = LuaEngine::builder().build().unwrap();
                // Without a limit of time, because Tokio's timers may be destroyed by then.
                let function = engine.function("script", ENDLESS, LuaConfig::process()).unwrap();
                let functions = Functions::new(App::builder().build());
                functions.register("app:script".parse().unwrap(), Options::new(), function).unwrap();
                Self(Some(functions))
            }
        }

        impl Drop for AtExit {
            fn drop(&mut self) {
                let Some(functions) = self.0.take() else { return };
                let ctx = functions.root();
                let mut call = pin!(ctx.call(Task::new("app:script".parse().unwrap())));
                let mut context = Context::from_waker(Waker::noop());
                for _ in 0..5 {
                    match call.as_mut().poll(&mut context) {
                        Poll::Pending => {}
                        // It is too late to run one.
                        Poll::Ready(result) => {
                            let error = result.expect_err("it runs forever");
                            assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
                            return;
                        }
                    }
                }
            }
        }

        thread_local! {
            static BEFORE: Cell<Option<AtExit>> = const { Cell::new(None) };
            static AFTER: Cell<Option<AtExit>> = const { Cell::new(None) };
        }

        for _ in 0..10 {
            let thread = thread::spawn(|| {
                BEFORE.set(Some(AtExit::new()));
                Script::new(ENDLESS).spin(SHORT);
                AFTER.set(Some(AtExit::new()));
            });
            thread.join().unwrap();
        }
    }

    /// How many VMs a test has.
    const VMS: usize = 2000;

    fn many_vms(source: &str) -> (Functions, Runtime, Arc<Notify>) {
        let engine = LuaEngine::builder().build().unwrap();
        let pool = PoolConfig::default().with_size(VMS).with_idle(VMS);
        let config = LuaConfig::default().with_pool(pool);
        let functions = Functions::new(App::builder().build());
        let function = engine.function("script", source, config).unwrap();
        functions.register("app:script".parse().unwrap(), Options::new(), function).unwrap();
        let (waiting, go_on) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
        let all_wait = Arc::clone(&waiting);
        let count = Arc::new(AtomicUsize::new(0));
        let wait = move |_: CallContext, payload: Payload| {
            let (waiting, go_on, count) = (Arc::clone(&waiting), Arc::clone(&go_on), Arc::clone(&count));
            async move {
                if payload == json!("go").into() {
                    go_on.add_permits(VMS);
                    return Ok(payload);
                }
                if count.fetch_add(1, Ordering::SeqCst) + 1 == VMS {
                    waiting.notify_one();
                }
                go_on.acquire().await.unwrap().forget();
                Ok::<_, CallError>(payload)
            }
        };
        functions.register("app:wait".parse().unwrap(), Options::new(), wait).unwrap();
        (functions, Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap(), all_wait)
    }

    fn spawn_all(
        functions: &Functions,
        runtime: &Runtime,
    ) -> Vec<tokio::task::JoinHandle<Result<Payload, CallError>>> {
        (0..VMS)
            .map(|number| {
                let ctx = functions.root();
                let task = Task::new("app:script".parse().unwrap()).with_payload(json!(number));
                runtime.spawn(async move { ctx.call(task).await })
            })
            .collect()
    }

    fn thousands_of_vms_wait_without_a_signal() {
        count_signals();
        let (functions, runtime, all_wait) = many_vms("return call('app:wait', ...) + 1");
        let calls = spawn_all(&functions, &runtime);
        runtime.block_on(all_wait.notified());
        // The last one may just be on its way out of Lua.
        thread::sleep(Duration::from_millis(100));
        let before = all();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(all(), before, "signals were sent while all scripts waited");
        let go = Task::new("app:wait".parse().unwrap()).with_payload(json!("go"));
        runtime.block_on(functions.root().call(go)).unwrap();
        for (number, call) in calls.into_iter().enumerate() {
            let result = runtime.block_on(call).unwrap().unwrap();
            assert_eq!(result, json!(number + 1).into());
        }
    }

    fn thousands_of_vms_are_interrupted() {
        count_signals();
        let source = "local sum = 0 for i = 1, 20000 do sum = sum + i % 7 end return sum + ...";
        let (functions, runtime, _) = many_vms(source);
        let calls = spawn_all(&functions, &runtime);
        for (number, call) in calls.into_iter().enumerate() {
            let result = runtime.block_on(call).unwrap().unwrap();
            assert_eq!(result, json!(59_998 + number).into());
        }
        assert!(all() > 0);
    }
}
