//! Attacks on memory, and on Lua's garbage collector.

use std::time::Duration;

use frame_dispatch::lua::LuaConfig;
use frame_dispatch::{PoolConfig, Task};

use crate::support::Expected::{Deadline, Ends, Exhausted, Fails, Stalls};
use crate::support::{
    MEMORY, Memory, Probes, Surroundings, alone, attack, id, millis, on_two_workers, run, sized,
};

#[test]
fn collection() {
    run(&[
        // The key in each table is reached through the table before it, and the collector finds one or two in each pass over
        // all. `setmetatable` refuses weak keys, but they can be asked for later.
        attack("weak keys that are set later, in a chain", Stalls, {
            let count = sized("20000", "4000");
            format!(
                "local m, tables, keys, order = {{}}, {{}}, {{}}, {{}}
                 for i = 1, {count} do keys[i] = {{}} order[i] = i tables[i] = setmetatable({{}}, m) end
                 for i = {count}, 2, -1 do
                 local j = math.random(i) order[i], order[j] = order[j], order[i] end
                 m.__mode = 'k'
                 for i = 1, {count} - 1 do tables[order[i]][keys[i]] = keys[i + 1] end
                 local first = keys[1] keys = nil
                 while true do local _ = {{}} end"
            )
        }),
        attack(
            "weak values",
            Deadline,
            "local t = setmetatable({}, { __mode = 'v' })
            for i = 1, 200000 do t[i] = {} end while true do local _ = {} end",
        ),
        attack(
            "many weak tables",
            Deadline,
            "local m, t = { __mode = 'v' }, {}
            for i = 1, 100000 do t[i] = setmetatable({ {} }, m) end while true do local _ = {} end",
        ),
        attack(
            "a long list",
            Deadline,
            "local list for i = 1, 300000 do list = { list } end while true do local _ = {} end",
        ),
        attack(
            "many small tables",
            Deadline,
            "local t = {} for i = 1, 300000 do t[i] = {} end while true do local _ = {} end",
        ),
        attack(
            "many closures",
            Deadline,
            "local t = {} for i = 1, 300000 do t[i] = function() return t end end while true do
             local _ = {} end",
        ),
        attack(
            "many coroutines",
            Deadline,
            "local t = {} for i = 1, 20000 do t[i] = coroutine.create(print) end while true do
             local _ = {} end",
        ),
        attack(
            "coroutines with large stacks",
            Deadline,
            "local t = {}
            local function f(n) if n == 0 then coroutine.yield() end return 1 + f(n - 1) end
            for i = 1, 40 do t[i] = coroutine.wrap(f) t[i](5000) end while true do local _ = {} end",
        ),
        attack("garbage of large strings", Deadline, "while true do local _ = ('x'):rep(4000000) end"),
    ]);
}

#[test]
fn at_the_limit() {
    run(&[
        attack("small tables until none fits", Exhausted, "local t = {} while true do t = { t } end"),
        attack(
            "caught at the limit, again and again",
            Deadline,
            "while true do pcall(function() local t = {} while true do t = { t } end end) end",
        ),
        attack(
            "at the limit, with garbage",
            Ends,
            "local t = {}
            pcall(function() while true do t = { t } end end)
            while true do pcall(string.rep, 'x', 1000000) end",
        ),
        attack(
            "at the limit, with small garbage",
            Ends,
            "local t = {}
            pcall(function() while true do t = { t } end end)
            while true do pcall(function() local _ = {} end) end",
        ),
        attack(
            "doubling in a straight line",
            Exhausted,
            format!("local s = 'x' {}", "s = s .. s ".repeat(64)),
        ),
        attack("rep above half the limit", Exhausted, "local s = ('x'):rep(20000000) return #(s .. s)"),
        attack("rep at the limit", Exhausted, "local t = {} for i = 1, 10 do t[i] = ('x'):rep(30000000) end"),
        attack(
            "gsub above half the limit",
            Exhausted,
            "local s = ('x'):rep(12000000) return #(s:gsub('x', 'xx'))",
        ),
        attack(
            "gsub with a function",
            Exhausted,
            "local s = ('x'):rep(1000) local r = ('y'):rep(100000) return #(s:gsub('x', function()
             return r end))",
        ),
        attack(
            "gsub with a long replacement",
            Exhausted,
            "return #(('a'):rep(1000000):gsub('.+', ('%0'):rep(100000)))",
        ),
        attack(
            "concat above half the limit",
            Exhausted,
            "local t = {} for i = 1, 30 do t[i] = ('x'):rep(1000000) end return #table.concat(t)",
        ),
        attack(
            "pack above half the limit",
            Exhausted,
            "local s = ('x'):rep(14000000) return #string.pack('s8', s)",
        ),
        attack(
            "format above half the limit",
            Exhausted,
            "local s = ('x'):rep(14000000) return #string.format('%s%s', s, s)",
        ),
        attack(
            "quoting",
            Fails("too long to be quoted"),
            "return #string.format('%q', ('\\0'):rep(14000000))",
        ),
        attack(
            "upper above half the limit",
            Exhausted,
            "local s = ('x'):rep(12000000) return #(s:upper() .. s:reverse())",
        ),
        attack(
            "a reader that never ends",
            Ends,
            "while true do load(function() return ('x'):rep(1000) end) end",
        ),
        attack(
            "utf8.char of many",
            Ends,
            "local t = {} for i = 1, 200000 do t[i] = 0x10ffff end
            while true do pcall(function() return utf8.char(table.unpack(t)) end) end",
        ),
        attack(
            "boxes that an error leaves",
            Deadline,
            "local s = ('x'):rep(100000)
            while true do pcall(string.gsub, s, 'x', function() return s, error() end) end",
        ),
    ]);
}

/// VMs that are full of small tables take a while to be closed.
#[test]
fn many_vms_that_close_at_once() {
    let _alone = alone();
    on_two_workers(async {
        const CALLS: usize = 12;
        let surroundings = Surroundings::new();
        let config = LuaConfig::default().with_memory(MEMORY).with_fresh_vm(true);
        let config = config.with_pool(PoolConfig::default().with_size(CALLS));
        let source = "local t = {} for i = 1, 250000 do t[i] = {} end call('app:echo') return #t";
        surroundings.register("full", source, config);
        let probes = Probes::start(&surroundings);
        let memory = Memory::reset();
        let calls = (0..CALLS).map(|_| {
            let root = surroundings.functions.root();
            tokio::spawn(async move { root.call(Task::new(id("app:full"))).await })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap().unwrap().as_json().unwrap(), 250_000);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (script, timer) = probes.stop().await;
        println!(
            "{CALLS} VMs close: p99 {:.1} ms (most {:.1}), timer {:.1} ms, peak {} MiB",
            millis(script.p99()),
            millis(script.most()),
            millis(timer.p99()),
            memory.peak() >> 20
        );
        assert!(memory.peak() <= CALLS * (MEMORY + (2 << 20)));
    });
}
