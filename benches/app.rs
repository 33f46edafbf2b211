//! What an app of many functions costs the program `frame`: to check, start, reload and stop, in time and in memory.
//!
//! Runs the release binary, `target/release/frame` unless `FRAME` names another, so build that first.

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("memory is read from /proc, which only Linux has");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::env;
    use std::fmt::Write as _;
    use std::fs;
    use std::io::{BufRead as _, BufReader};
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStderr, Command, Stdio};
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    /// How many functions the apps have.
    const SIZES: [usize; 4] = [1, 100, 1_000, 10_000];

    /// How often each is measured. The median is shown.
    const TURNS: usize = 5;

    /// What a program took, and the most memory that it had until then, in MiB.
    #[derive(Clone, Copy)]
    struct Cost {
        time: Duration,
        memory: u64,
    }

    pub(super) fn main() {
        // Cargo runs the target of a benchmark with this, and tests without.
        if !env::args().any(|argument| argument == "--bench") {
            return;
        }
        let program = env::var_os("FRAME").map_or_else(release, PathBuf::from);
        assert!(program.exists(), "build it first: cargo build --release --bin frame");
        println!("| functions | check | start | reload, nothing changed | reload, one changed | stop |");
        println!("|---|---|---|---|---|---|");
        for size in SIZES {
            let turns: Vec<_> = (0..TURNS).map(|_| turn(&program, size)).collect();
            let mut row = format!("| {size} |");
            for step in 0..5 {
                let mut costs: Vec<_> = turns.iter().map(|turn| turn[step]).collect();
                costs.sort_by_key(|cost| cost.time);
                let Cost { time, memory } = costs[TURNS / 2];
                let _ = write!(row, " {:.3} s, {memory} MiB |", time.as_secs_f64());
            }
            println!("{row}");
        }
    }

    fn release() -> PathBuf {
        let program = env::current_exe().expect("it runs");
        program.ancestors().nth(2).expect("it is in `target/release/deps`").join("frame")
    }

    /// What each step of an app took: check, start, two reloads, stop.
    fn turn(program: &Path, size: usize) -> [Cost; 5] {
        let app = app(size);
        let checked = check(program, app.path());
        let began = Instant::now();
        let mut run = Run::start(program, app.path());
        run.wait_for("ready");
        let started = run.cost(began);
        let mut reload = |changed: &str| {
            let began = Instant::now();
            run.signal("HUP");
            let said = run.wait_for("reloaded, changed: ");
            assert!(said.contains(changed), "{said}");
            run.cost(began)
        };
        let unchanged = reload("nothing");
        fs::write(app.path().join("0.lua"), "return 'changed'\n").expect("it is written");
        let changed = reload("functions replaced");
        let memory = run.memory();
        let began = Instant::now();
        run.signal("TERM");
        assert!(run.child.wait().expect("it is a child").success());
        [checked, started, unchanged, changed, Cost { time: began.elapsed(), memory }]
    }

    /// An app whose functions have a script each.
    fn app(size: usize) -> TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let mut manifest = "[app]\nname = \"measured\"\n".to_owned();
        for index in 0..size {
            fs::write(directory.path().join(format!("{index}.lua")), format!("return {index}\n"))
                .expect("it is written");
            let _ =
                writeln!(manifest, "[functions.\"app:{index}\"]\nengine = \"lua\"\nsource = \"{index}.lua\"");
        }
        fs::write(directory.path().join("app.toml"), manifest).expect("it is written");
        directory
    }

    fn check(program: &Path, directory: &Path) -> Cost {
        let began = Instant::now();
        let mut command = Command::new(program);
        command.current_dir(directory).arg("check").stdout(Stdio::null());
        let mut child = command.spawn().expect("it was built");
        let mut memory = 0;
        // What it has at the end is nearly the most: nothing is freed before that.
        while child.try_wait().expect("it is a child").is_none() {
            memory = peak(child.id()).unwrap_or(0).max(memory);
            std::thread::sleep(Duration::from_millis(1));
        }
        Cost { time: began.elapsed(), memory }
    }

    struct Run {
        child: Child,
        stderr: BufReader<ChildStderr>,
    }

    impl Run {
        fn start(program: &Path, directory: &Path) -> Self {
            let mut command = Command::new(program);
            command.current_dir(directory).args(["run", "--log-level", "info"]).stderr(Stdio::piped());
            let mut child = command.spawn().expect("it was built");
            let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
            Self { child, stderr }
        }

        fn wait_for(&mut self, text: &str) -> String {
            loop {
                let mut line = String::new();
                let read = self.stderr.read_line(&mut line).expect("it is text");
                assert!(read > 0, "it ended before it said `{text}`");
                if line.contains(text) {
                    return line;
                }
            }
        }

        fn signal(&self, name: &str) {
            let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()));
        }

        fn memory(&self) -> u64 {
            peak(self.child.id()).expect("it runs")
        }

        fn cost(&self, began: Instant) -> Cost {
            Cost { time: began.elapsed(), memory: self.memory() }
        }
    }

    /// The most memory that a process has had, in MiB.
    fn peak(pid: u32) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
    }
}
