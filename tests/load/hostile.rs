//! Many scripts that try to use up everything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use frame_dispatch::ErrorKind;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::sealed::sealed_tests;
use crate::server::{NAME, Servers};
use crate::{App, Function, GENEROUS, as_program};

/// Takes memory, and once all have that, connections until it gets no more, and keeps them. Goes on to look names up, to connect and to leave
/// connections idle. Where it is refused everything it waits for a tick, a second: how processor time is shared is another
/// matter, which the tests `hostile` of `frame-dispatch` are about.
const HOSTILE: &str = r"
    local number, origin, url, isolates = table.unpack(...)
    local memory, open = {}, {}
    local ticks = net.connect(origin)
    pcall(function() while true do memory[#memory + 1] = ('x'):rep(65536) end end)
    for _ = 1, 4 do table.remove(memory) end
    ticks:write('FULL\r\n\r\n')
    ticks:read(1)
    local i = 0
    while true do
      i = i + 1
      local connected, connection = pcall(net.connect, origin)
      if connected then open[#open + 1] = connection end
      local answered = pcall(http.get, url .. i, { isolation = isolates and 'key ' .. i or nil })
      pcall(net.connect, 'h' .. number .. '-' .. i .. '.slow.example', 80, { timeout = 0.05 })
      pcall(net.lookup, 'l' .. number .. '-' .. i .. '.slow.example')
      if not connected then
        ticks:write('TICK\r\n\r\n')
        ticks:read(1)
      end
    end";

/// Returns how long each of [`STEPS`] took, in seconds.
const HONEST: &str = r"
    local name, port = table.unpack(...)
    local took, began = {}, os.clock()
    local function done()
      took[#took + 1] = os.clock() - began
      began = os.clock()
    end
    local address = net.lookup(name)[1]
    assert(address == '127.0.0.1')
    done()
    local connection = net.connect(address, port)
    done()
    connection:write('GET / HTTP/1.1\r\n\r\n')
    assert(connection:read_line():find('200'))
    connection:close()
    done()
    assert(http.get('http://' .. name .. ':' .. port .. '/').body == 'ok')
    done()
    assert(fs.read('file') == 'content')
    done()
    return took";

/// What the honest script does. The request over HTTP looks the name up and connects, too.
const STEPS: [&str; 5] = ["lookup", "connect", "answer", "http", "file"];

/// Returns at once. What its call takes is time in the queue of the threads of scripts.
const IDLE: &str = "return 0";

/// How long the honest script is left alone between two calls.
const PAUSE: Duration = Duration::from_millis(10);

/// How much of everything there is.
#[derive(Clone, Copy)]
struct Size {
    scripts: usize,
    calls: usize,
    time: Duration,
    goal: Duration,
}

impl Size {
    fn of_this_run() -> Self {
        if std::env::var_os("FRAME_LOAD_STRICT").is_some_and(|value| value == "1") {
            Self { scripts: 1000, calls: 2, time: Duration::from_secs(20), goal: Duration::from_millis(100) }
        } else {
            Self { scripts: 50, calls: 2, time: Duration::from_secs(2), goal: GENEROUS }
        }
    }
}

sealed_tests! {
    async fn an_honest_script_works_beside_hostile_ones(world: World) {
        // The servers have a name server of their own, at the same port.
        drop(world);
        // A server that gets more questions than it can queue drops some.
        let servers = "nameserver 127.0.0.1\noptions timeout:1 attempts:10\n";
        std::fs::write("/etc/resolv.conf", servers).unwrap();
        as_program(run(Size::of_this_run()));
    }
}

async fn run(size: Size) {
    let mut servers = Servers::start();
    let (origin, proxy) = (servers.origin, servers.proxy);
    let head = format!(
        "[clearnet]\nallow = [\"127.0.0.0/8\"]\n[limits]\nconnections = {}\nlookups = {}\n\
         [networks.\"app:proxy\"]\nkind = \"socks5\"\nproxy = \"127.0.0.1:{proxy}\"\nisolate = true\nallow = [\"127.0.0.0/8\"]\n",
        size.scripts * 8,
        size.scripts + size.scripts / 2,
    );
    let names: Vec<_> = (0..size.scripts).map(|number| format!("hostile{number}")).collect();
    // One in two goes through the proxy.
    let isolates = |number: usize| number % 2 == 1;
    let limits = "limits = { memory = \"2MiB\", time = \"10m\" }";
    let proxied = format!("{limits}\noptions = {{ network = \"app:proxy\" }}");
    let mut functions: Vec<_> = (names.iter().enumerate())
        .map(|(number, name)| {
            let settings = if isolates(number) { &proxied } else { limits };
            Function { name, source: HOSTILE, settings }
        })
        .collect();
    functions.push(Function { name: "honest", source: HONEST, settings: "options = { fs_root = \".\" }" });
    functions.push(Function { name: "idle", source: IDLE, settings: "" });
    let app = Arc::new(App::new(&head, &functions).await);

    let mut hostile = JoinSet::new();
    let calls = u32::try_from(size.scripts * size.calls).unwrap();
    for number in 0..size.scripts * size.calls {
        // One after the other, so that the servers keep up: what is of interest is what they hold, not how they begin.
        let begins = size.time / 2 * u32::try_from(number).unwrap() / calls;
        let (app, number) = (Arc::clone(&app), number / size.calls);
        hostile.spawn(async move {
            sleep(begins).await;
            let payload = json!([
                number,
                format!("127.0.0.1:{origin}"),
                format!("http://127.0.0.1:{origin}/"),
                isolates(number)
            ]);
            // Those that die of what they take are called again.
            loop {
                let called = app.call(&format!("hostile{number}"), payload.clone(), Duration::MAX).await;
                let error = called.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
            }
        });
    }
    // Until there is nothing left to take.
    let all = servers.release_once_full(size.scripts * size.calls);
    timeout(GENEROUS * 2, all).await.expect("all of them take memory");
    sleep(size.time / 4).await;
    let began = Instant::now();
    let mut calls = Times::default();
    let mut idle = Times::default();
    let mut steps = STEPS.map(|_| Times::default());
    while began.elapsed() < size.time {
        let began = Instant::now();
        app.call("idle", json!(null), GENEROUS).await.unwrap();
        idle.0.push(began.elapsed());
        let began = Instant::now();
        let took = app.call("honest", json!([NAME, origin]), GENEROUS).await.unwrap();
        calls.0.push(began.elapsed());
        let took: [f64; STEPS.len()] = serde_json::from_value(took).unwrap();
        for (step, took) in steps.iter_mut().zip(took) {
            step.0.push(Duration::from_secs_f64(took));
        }
        sleep(PAUSE).await;
    }
    assert_eq!(hostile.len(), size.scripts * size.calls, "all of them were there");
    assert!(hostile.try_join_next().is_none(), "none has ended");
    servers.check();
    println!("{} scripts, {} honest calls: {}", size.scripts, calls.0.len(), calls.summary());
    for (name, mut times) in STEPS.into_iter().zip(steps) {
        println!("  {name:8}{}", times.summary());
    }
    println!("an idle call: {}", idle.summary());
    let p99 = calls.share(99);
    assert!(p99 < size.goal, "p99 {p99:?}");
}

/// How long something took, each time.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    /// Returns what `percent` of them are not longer than.
    fn share(&mut self, percent: usize) -> Duration {
        self.0.sort_unstable();
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }

    fn summary(&mut self) -> String {
        let [median, p90, p99, most] =
            [50, 90, 99, 100].map(|percent| self.share(percent).as_secs_f64() * 1e3);
        format!("median {median:.1} ms, p90 {p90:.1}, p99 {p99:.1}, most {most:.1}")
    }
}
