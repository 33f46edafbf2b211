//! Honest and hostile calls at the same time, for a while.

use std::env;
use std::time::{Duration, Instant};

use frame_dispatch::lua::LuaConfig;
use frame_dispatch::{ErrorKind, PoolConfig, Task};

use crate::support::{MEMORY, Memory, Probes, Surroundings, alone, id, is_strict, millis, on_two_workers};

/// Hostile scripts that are interrupted. Each ends by its deadline, or before.
const HOSTILE: [&str; 16] = [
    "while true do end",
    "while true do pcall(error) end",
    "while true do xpcall(error, function() error('again') end) end",
    "while true do pcall(function() local t = {} while true do t = { t } end end) end",
    "local s = 'x' while true do s = s .. s end",
    "return (('a'):rep(1000000):find('.-.-b'))",
    "local t = {} for i = 1, 100000 do t[i] = i * 7919 % 100003 end
     while true do table.sort(t, function(a, b) return a > b end) end",
    "while true do pcall(call, 'app:fail', 'x') end",
    "local t = {} for i = 1, 20000 do t[i] = { i } end while true do call('app:echo', t) end",
    "while true do local _ = ('x'):rep(4000000) end",
    "while true do coroutine.wrap(function() while true do end end)() end",
    "local function f() return 1 + f() end while true do pcall(f) end",
    "local s = ('x = 1 '):rep(10000) while true do load(s) end",
    "while true do log.info('line', { n = 1 }) end",
    "local t = {} for i = 1, 200000 do t[i] = {} end while true do local _ = {} end",
    "table.sort({ 3, 2, 1 }, function() while true do pcall(function() while true do end end) end end)",
];

/// How long it takes: some seconds, or what `FRAME_HOSTILE_SOAK` says.
fn budget() -> Duration {
    let seconds =
        env::var("FRAME_HOSTILE_SOAK").ok().map(|seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(4))
}

#[test]
fn honest_calls_are_quick_beside_hostile_ones() {
    let _alone = alone();
    on_two_workers(async {
        let surroundings = Surroundings::new();
        let config = LuaConfig::default().with_memory(MEMORY);
        let config = config.with_pool(PoolConfig::default().with_size(2));
        let functions: Vec<_> = HOSTILE
            .iter()
            .enumerate()
            .map(|(number, source)| {
                surroundings.register(&format!("hostile{number}"), source, config.clone())
            })
            .collect();
        let probes = Probes::start(&surroundings);
        let memory = Memory::reset();
        let (began, budget) = (Instant::now(), budget());
        let hostile = (0..4).map(|worker| {
            let functions = surroundings.functions.clone();
            tokio::spawn(async move {
                let mut calls = 0;
                while began.elapsed() < budget {
                    let ctx = functions.root().with_timeout(Duration::from_millis(50));
                    let task = Task::new(id(&format!("app:hostile{}", (worker * 4 + calls) % HOSTILE.len())));
                    if let Err(error) = ctx.call(task).await {
                        let kinds = [ErrorKind::Deadline, ErrorKind::Exhausted, ErrorKind::Internal];
                        assert!(kinds.contains(&error.kind()), "{error}");
                    }
                    calls += 1;
                }
                calls
            })
        });
        let mut calls = 0;
        for hostile in hostile.collect::<Vec<_>>() {
            calls += hostile.await.unwrap();
        }
        let (script, timer) = probes.stop().await;
        let (peak, grown) = (memory.peak() >> 20, memory.grown() >> 20);
        println!(
            "soak of {} s: {calls} hostile and {} honest calls, p99 {:.1} ms (median {:.1}, most {:.1}), \
             timer {:.1} ms, peak {peak} MiB, RSS grew by {grown} MiB",
            budget.as_secs(),
            script.count(),
            millis(script.p99()),
            millis(script.median()),
            millis(script.most()),
            millis(timer.p99()),
        );
        for (function, source) in functions.iter().zip(HOSTILE) {
            assert!(function.quarantine().is_none(), "{source}: it was quarantined");
        }
        let goal = if is_strict() { Duration::from_millis(50) } else { Duration::from_secs(5) };
        assert!(script.p99() < goal, "{:?}", script.p99());
    });
}
