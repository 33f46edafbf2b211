//! Many scripts that try to use up everything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use frame_dispatch::ErrorKind;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::sealed::sealed_tests;
use crate::server::{NAME, Servers};
use crate::{App, Function, GENEROUS, as_program};

/// Takes memory and connections until it gets no more, and keeps them. Goes on to look names up, to connect and to leave
/// connections idle. Where it is refused everything it waits for a tick, a quarter of a second: how processor time is shared
/// is another matter, which the tests `hostile` of `frame-dispatch` are about.
const HOSTILE: &str = r"
    local number, origin, url, isolates = table.unpack(...)
    local memory, open = {}, {}
    local ticks
    repeat
      local ok, connection = pcall(net.connect, origin)
      if ok then ticks = connection end
    until ok
    ticks:write('TICK\r\n\r\n')
    pcall(function() while true do memory[#memory + 1] = ('x'):rep(65536) end end)
    for _ = 1, 4 do table.remove(memory) end
    local i = 0
    while true do
      i = i + 1
      local connected, connection = pcall(net.connect, origin)
      if connected then open[#open + 1] = connection end
      local answered = pcall(http.get, url .. i, { isolation = isolates and 'key ' .. i or nil })
      pcall(net.connect, 'h' .. number .. '-' .. i .. '.slow.example', 80, { timeout = 0.05 })
      local _, e = pcall(net.lookup, 'l' .. number .. '-' .. i .. '.slow.example')
      if not connected and e.kind == 'exhausted' then ticks:read(1) end
    end";

const HONEST: &str = r"
    local name, port = table.unpack(...)
    assert(net.lookup(name)[1] == '127.0.0.1')
    local connection <close> = net.connect(name, port)
    connection:write('GET / HTTP/1.1\r\n\r\n')
    assert(connection:read_line():find('200'))
    assert(http.get('http://' .. name .. ':' .. port .. '/').body == 'ok')
    assert(fs.read('file') == 'content')";

/// How long the honest script is left alone between two calls.
const PAUSE: Duration = Duration::from_millis(10);

/// How much of everything there is.
struct Size {
    scripts: usize,
    calls: usize,
    time: Duration,
    goal: Duration,
}

impl Size {
    fn of_this_run() -> Self {
        if std::env::var_os("FRAME_LOAD_STRICT").is_some_and(|value| value == "1") {
            Self { scripts: 1000, calls: 2, time: Duration::from_secs(40), goal: Duration::from_millis(100) }
        } else {
            Self { scripts: 50, calls: 2, time: Duration::from_secs(4), goal: GENEROUS }
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
    let servers = Servers::start();
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
    let limits = "limits = { memory = \"2MiB\" }";
    let proxied = format!("{limits}\noptions = {{ network = \"app:proxy\" }}");
    let mut functions: Vec<_> = (names.iter().enumerate())
        .map(|(number, name)| {
            let settings = if isolates(number) { &proxied } else { limits };
            Function { name, source: HOSTILE, settings }
        })
        .collect();
    functions.push(Function { name: "honest", source: HONEST, settings: "options = { fs_root = \".\" }" });
    let app = Arc::new(App::new(&head, &functions).await);

    let until = Instant::now() + size.time;
    let mut hostile = JoinSet::new();
    let calls = u32::try_from(size.scripts * size.calls).unwrap();
    for number in 0..size.scripts * size.calls {
        // One after the other, so that the servers keep up: what is of interest is what they hold, not how they begin.
        let begins = size.time / 4 * u32::try_from(number).unwrap() / calls;
        let (app, number) = (Arc::clone(&app), number / size.calls);
        hostile.spawn(async move {
            sleep(begins).await;
            let payload = json!([
                number,
                format!("127.0.0.1:{origin}"),
                format!("http://127.0.0.1:{origin}/"),
                isolates(number)
            ]);
            let left = until.saturating_duration_since(Instant::now());
            let error = app.call(&format!("hostile{number}"), payload, left).await.unwrap_err();
            assert!([ErrorKind::Deadline, ErrorKind::Exhausted].contains(&error.kind()), "{error}");
        });
    }
    // Until there is nothing left to take.
    sleep(size.time / 2).await;
    let mut took = Vec::new();
    while Instant::now() < until {
        let began = Instant::now();
        app.call("honest", json!([NAME, origin]), GENEROUS).await.unwrap();
        took.push(began.elapsed());
        sleep(PAUSE).await;
    }
    while let Some(ended) = hostile.join_next().await {
        ended.unwrap();
    }
    took.sort_unstable();
    let share = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!(
        "{} scripts, {} honest calls: median {:?}, p90 {:?}, p99 {:?}, most {:?}",
        size.scripts,
        took.len(),
        share(50),
        share(90),
        share(99),
        share(100)
    );
    assert!(share(99) < size.goal, "p99 {:?}", share(99));
}
