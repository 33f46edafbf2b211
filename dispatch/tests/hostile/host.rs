//! Attacks on what scripts have of the host: calls, logs, conversions.

use std::collections::HashSet;

use frame_dispatch::lua::LuaConfig;
use frame_dispatch::{PoolConfig, Task};

use crate::support::Expected::{Deadline, Ends, Exhausted, Fails, Returns};
use crate::support::{Memory, Surroundings, alone, attack, id, is_strict, on_two_workers, run};

#[test]
fn conversions() {
    run(&[
        attack(
            "300 000 integers",
            Returns(300_000),
            "local t = {} for i = 1, 300000 do t[i] = i end return #call('app:echo', t)",
        ),
        attack(
            "300 000 integers for ever",
            Deadline,
            "local t = {} for i = 1, 300000 do t[i] = i end while true do call('app:echo', t) end",
        ),
        attack(
            "60 000 small tables for ever",
            Ends,
            "local t = {} for i = 1, 60000 do t[i] = { i } end while true do call('app:echo', t) end",
        ),
        attack(
            "60 000 objects for ever",
            Ends,
            "local t = {} for i = 1, 60000 do t[i] = { k = i } end while true do call('app:echo', t) end",
        ),
        attack(
            "1 MB of JSON for ever",
            Deadline,
            "local t = {} for i = 1, 10000 do t[i] = { name = 'name ' .. i, list = { i, i, i } } end
             while true do t = call('app:echo', t) end",
        ),
        attack(
            "a string of 14 MB",
            Ends,
            "local s = ('x'):rep(14000000) while true do pcall(call, 'app:echo', s) end",
        ),
        attack(
            "bytes of 14 MB",
            Ends,
            "local s = bytes(('x'):rep(14000000)) while true do pcall(call, 'app:echo', s) end",
        ),
        attack(
            "strings that are not UTF-8",
            Ends,
            "local s = ('x'):rep(10000000) .. '\\xff' while true do pcall(call, 'app:echo', s) end",
        ),
        attack(
            "a table that contains itself",
            Ends,
            "local t = {} t.t = t while true do pcall(call, 'app:echo', t) end",
        ),
        attack(
            "the same table many times",
            Ends,
            "local t = {} for i = 1, 30 do t = { t, t } end while true do pcall(call, 'app:echo', t) end",
        ),
        attack(
            "deep tables",
            Ends,
            "local t = {} for i = 1, 100000 do t = { t } end while true do pcall(call, 'app:echo', t) end",
        ),
        attack(
            "a large table with gaps",
            Ends,
            "local t = {} for i = 1, 300000 do t[i] = i end t[5] = nil t.x = 1
             while true do pcall(call, 'app:echo', t) end",
        ),
        attack(
            "long keys",
            Ends,
            "local t = { [('k'):rep(7000000)] = 1 } while true do pcall(call, 'app:echo', t) end",
        ),
        attack(
            "a large result",
            Exhausted,
            "local t = {} for i = 1, 17 do t[i] = ('x'):rep(1000000) end return t",
        ),
        attack("a result that is not JSON", Fails("function"), "return { print }"),
    ]);
}

#[test]
fn calls() {
    run(&[
        attack("failed calls for ever", Deadline, "while true do pcall(call, 'app:fail', 'x') end"),
        attack(
            "calls of what is not there, for ever",
            Deadline,
            "while true do pcall(call, 'app:missing', 'x') end",
        ),
        attack("ids of megabytes", Deadline, "local s = ('x'):rep(8000000) while true do pcall(call, s) end"),
        attack(
            "options of megabytes",
            Deadline,
            "local o = { [('x'):rep(4000000)] = 1 } while true do pcall(call, 'app:echo', nil, o) end",
        ),
        attack(
            "failed calls that are kept",
            Ends,
            "local t = {} for i = 1, 1000000 do t[i] = select(2, pcall(call, 'app:fail')) end",
        ),
        attack(
            "frames that are read for ever",
            Deadline,
            "while true do frame.get('function') frame.get(('x'):rep(1000000)) end",
        ),
        attack("a call of itself", Ends, "call('app:attack')"),
        attack(
            "calls in coroutines",
            Deadline,
            "while true do coroutine.wrap(function() call('app:echo', 1) end)() end",
        ),
        attack(
            "a call in a sort",
            Ends,
            "while true do pcall(table.sort, { 3, 2, 1 }, function(a, b) call('app:echo')
             return a < b end) end",
        ),
    ]);
}

#[test]
fn logs() {
    run(&[
        attack("lines for ever", Deadline, "while true do log.info('line', { n = 1 }) end"),
        attack("a line of 14 MB", Deadline, "local s = ('x'):rep(14000000) while true do log.info(s) end"),
        attack(
            "a line of many parts",
            Ends,
            "local t = {} for i = 1, 100000 do t[i] = i end while true do pcall(print, table.unpack(t)) end",
        ),
        attack(
            "fields of megabytes",
            Deadline,
            "local s = ('x'):rep(10000000) while true do pcall(log.info, 'x', { s = s }) end",
        ),
    ]);
}

/// The issue's: under the default limit of memory it must not hold memory outside of the VM.
#[test]
fn failed_calls_leave_nothing_behind() {
    let _alone = alone();
    on_two_workers(async {
        let surroundings = Surroundings::new();
        let count = if is_strict() { 900_000 } else { 60_000 };
        let source = format!("for i = 1, {count} do pcall(call, 'app:fail', 'x') end return 0");
        let config = LuaConfig::default().with_time(std::time::Duration::MAX);
        surroundings.register("calls", &source, config);
        let memory = Memory::reset();
        let result = surroundings.functions.root().call(Task::new(id("app:calls"))).await;
        let (peak, grown) = (memory.peak() >> 20, memory.grown() >> 20);
        println!("{count} failed calls: peak {peak} MiB, RSS grew by {grown} MiB");
        assert_eq!(result.unwrap().as_json().unwrap(), 0);
        assert!(peak <= 40 && grown <= 64, "peak {peak} MiB, RSS grew by {grown} MiB");
    });
}

#[test]
fn random_numbers_of_calls_differ() {
    let _alone = alone();
    on_two_workers(async {
        let surroundings = Surroundings::new();
        surroundings.register("random", "return math.random(0)", LuaConfig::default());
        let count = if is_strict() { 100_000 } else { 10_000 };
        let mut seen = HashSet::new();
        for _ in 0..count {
            let result = surroundings.functions.root().call(Task::new(id("app:random"))).await.unwrap();
            assert!(seen.insert(result.as_json().unwrap().as_i64().unwrap()), "a number comes twice");
        }
    });
}

/// Set in the process that nests calls, because a stack that overflows ends the process.
const NESTS: &str = "FRAME_HOSTILE_NESTS";

#[test]
fn nested_calls_end_no_process() {
    if std::env::var_os(NESTS).is_some() {
        return nest_calls();
    }
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "host::nested_calls_end_no_process", "--nocapture", "--test-threads", "1"];
    let output = std::process::Command::new(program).args(arguments).env(NESTS, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}", output.status, &said[..said.floor_char_boundary(2000)]);
}

fn nest_calls() {
    on_two_workers(async {
        let surroundings = Surroundings::new();
        let config =
            LuaConfig::default().with_memory(4 << 20).with_pool(PoolConfig::default().with_size(2000));
        surroundings.register(
            "nest",
            "local n = ... if n == 0 then return 0 end return call('app:nest', n - 1)",
            config,
        );
        for depth in [5, 20, 100, 1000] {
            let root = surroundings.functions.root();
            let result = root.call(Task::new(id("app:nest")).with_payload(serde_json::json!(depth))).await;
            match result {
                Ok(value) => assert_eq!(value.as_json().unwrap(), 0),
                Err(error) => assert!(depth > 5 && !error.is_retryable(), "{depth}: {error}"),
            }
        }
    });
}
