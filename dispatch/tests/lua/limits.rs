//! Limits that a script cannot swallow.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaError, LuaFunction};
use frame_dispatch::{CallContext, CallError, ErrorKind, Payload, PoolConfig};
use frame_registry::Options;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{Script, id};

/// Each runs forever if it is let.
pub(crate) const ENDLESS: [(&str, &str); 32] = [
    ("a loop", "while true do end"),
    ("goto", "::a:: goto a"),
    ("pcall", "pcall(function() while true do end end)"),
    ("pcall in a loop", "while true do pcall(function() while true do end end) end"),
    ("pcall of error in a loop", "while true do pcall(error) end"),
    (
        "nested pcall",
        "local function f(n) if n == 0 then while true do end end pcall(f, n - 1) while true do end end f(50)",
    ),
    ("xpcall", "while true do xpcall(function() while true do end end, function(e) return e end) end"),
    ("handler", "xpcall(error, function() while true do end end)"),
    ("handlers", "while true do xpcall(error, function() while true do end end) end"),
    (
        "handler with pcall",
        "xpcall(error, function() while true do pcall(function() while true do end end) end end)",
    ),
    ("coroutine", "coroutine.wrap(function() while true do end end)()"),
    ("coroutine in pcall", "while true do pcall(coroutine.wrap(function() while true do end end)) end"),
    (
        "coroutine in coroutine",
        "coroutine.wrap(function() coroutine.wrap(function() while true do end end)() end)() while true do end",
    ),
    ("resume", "while true do coroutine.resume(coroutine.create(function() while true do end end)) end"),
    (
        "yields",
        "local co = coroutine.wrap(function() while true do coroutine.yield() end end) while true do co() end",
    ),
    (
        "short coroutines",
        "local function f() while true do coroutine.wrap(function() local x = 1 end)() end end f()",
    ),
    ("a factory in pcall", "local function f() while true do pcall(coroutine.wrap(f)) end end f()"),
    (
        "nested short coroutines",
        "local function f(n) if n > 0 then for i = 1, 8 do coroutine.wrap(f)(n - 1) end end end while true do f(150) end",
    ),
    ("__index", "local t = setmetatable({}, { __index = function() while true do end end }) return t.x"),
    ("__tostring", "tostring(setmetatable({}, { __tostring = function() while true do end end }))"),
    (
        "__lt in sort",
        "local m = { __lt = function() while true do end end } local a = setmetatable({}, m) table.sort({a,a,a})",
    ),
    ("sort", "table.sort({3,2,1}, function() while true do pcall(function() while true do end end) end end)"),
    ("gsub", "('x'):gsub('x', function() while true do pcall(function() while true do end end) end end)"),
    (
        "__close",
        "local x <close> = setmetatable({}, { __close = function() while true do end end }) error('out')",
    ),
    (
        "__close in coroutine.close",
        "local co = coroutine.create(function()
           local x <close> = setmetatable({}, { __close = function() while true do end end })
           coroutine.yield()
         end)
         coroutine.resume(co) coroutine.close(co)",
    ),
    (
        "__close of a coroutine that cannot wait",
        "tostring(setmetatable({}, { __tostring = function()
           coroutine.wrap(function()
             local x <close> = setmetatable({}, { __close = function() while true do end end })
             call('app:nothing')
           end)()
         end }))",
    ),
    (
        "a coroutine in __tostring",
        "tostring(setmetatable({}, { __tostring = function() coroutine.wrap(function() while true do end end)() end }))",
    ),
    (
        "short coroutines in __tostring",
        "tostring(setmetatable({}, { __tostring = function()
           while true do coroutine.wrap(function() for i = 1, 1000 do end end)() end
         end }))",
    ),
    ("move", "table.move({}, 1, 1e15 // 1 | 0, 2)"),
    (
        "__len",
        "table.concat(setmetatable({}, { __len = function() return 1 << 50 end, __index = function() return '' end }))",
    ),
    ("load", "load(function() while true do end end)"),
    ("ipairs", "for _ in ipairs(setmetatable({}, { __index = function() return 1 end })) do end"),
];

/// What no cancelling ends, but its own limits.
pub(crate) fn ends_by_itself(name: &str) -> bool {
    [
        "handler",
        "handlers",
        "handler with pcall",
        "__tostring",
        "__len",
        "__close in coroutine.close",
        "__close of a coroutine that cannot wait",
        "a coroutine in __tostring",
        "short coroutines in __tostring",
    ]
    .contains(&name)
}

fn script(source: &str) -> Script {
    // The call after it is told apart by its payload.
    Script::new(&format!("if ... == 'next' then return 'fine' end {source}"))
}

async fn assert_next_call_works(script: &Script, name: &str) {
    assert_eq!(script.json(json!("next")).await, "fine", "after {name}");
    let statistics = script.function.statistics();
    assert_eq!((statistics.running, statistics.waiting), (0, 0), "after {name}");
    assert_eq!(
        statistics.built,
        statistics.idle as u64 + statistics.discarded,
        "after {name}: {statistics:?}"
    );
}

#[tokio::test]
async fn a_deadline_ends_whatever_a_script_does() {
    for (name, source) in ENDLESS {
        let script = script(source);
        let ctx = script.functions.root().with_timeout(Duration::from_millis(20));
        let error = script.call_with(&ctx, json!(null)).await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Deadline, "{name}: {error}");
        assert_next_call_works(&script, name).await;
    }
}

#[tokio::test]
async fn cancelling_ends_whatever_a_script_does_on_the_same_thread() {
    for (name, source) in ENDLESS {
        let script = script(source);
        let token = CancellationToken::new();
        let ctx = script.functions.root().with_cancellation(token.clone());
        // Both are on one thread, so the second comes to run only because the script lets it.
        let (outcome, ()) = tokio::join!(script.call_with(&ctx, json!(null)), async {
            tokio::task::yield_now().await;
            token.cancel();
        });
        let error = outcome.expect_err(name);
        // It may be interrupted before it gets to where it cannot be suspended.
        let is_expected = error.kind() == ErrorKind::Cancelled
            || (ends_by_itself(name) && error.kind() == ErrorKind::Internal);
        assert!(is_expected, "{name}: {error}");
        assert_next_call_works(&script, name).await;
    }
}

#[tokio::test]
async fn a_message_handler_is_called_after_a_caught_stack_overflow() {
    let source = "local function deep() local result = deep() return result end
                  local caught = {}
                  for i = 1, 3 do caught[i] = select(2, pcall(deep)) end
                  return { caught, select(2, xpcall(error, function(e) return 'handled ' .. e end, 'x')) }";
    // It overflows at an interruption, which is not always that deep.
    let config = LuaConfig::default().with_memory(256 << 20);
    let result = Script::with_config(source, config).json(json!(null)).await;
    assert_eq!(result[1], "handled x", "after {}", result[0]);
}

#[tokio::test]
async fn the_functions_own_limit_of_time_counts_from_its_turn() {
    let config = LuaConfig::default()
        .with_time(Duration::from_millis(30))
        .with_pool(PoolConfig::default().with_size(1));
    let script = Script::with_config("if ... then return 'fine' end while true do pcall(error) end", config);
    let (spinning, waiting) = tokio::join!(script.call(json!(false)), script.call(json!(true)));
    let error = spinning.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error} {:?}", error.source());
    assert_eq!(waiting.unwrap(), json!("fine").into());
}

#[tokio::test]
async fn a_script_that_spins_lets_others_run() {
    let script = Script::new("local t = {} for i = 1, 3e6 do t[i % 7] = i end return 'done'");
    let mut turns = 0;
    let count = async {
        loop {
            tokio::task::yield_now().await;
            turns += 1;
        }
    };
    tokio::select! {
        biased;
        result = script.json(json!(null)) => assert_eq!(result, "done"),
        () = count => (),
    }
    assert!(turns > 3, "it had {turns} turns");
}

/// What one call of a library function could do for very long.
const LONG: [(&str, &str); 23] = [
    ("rep of nothing", "(''):rep(1e18 // 1 | 0)"),
    ("rep", "while true do pcall(string.rep, 'x', 1 << 40) end"),
    ("large rep", "while true do local s = ('x'):rep(8e6 // 1 | 0) end"),
    ("find", "while true do pcall(string.find, ('a'):rep(1e5 // 1 | 0), ('.-'):rep(20) .. 'b') end"),
    ("match", "while true do pcall(string.match, ('a'):rep(1e5 // 1 | 0), ('a*'):rep(20) .. 'b') end"),
    (
        "gmatch",
        "while true do pcall(function() for _ in ('a'):rep(1e5 // 1 | 0):gmatch(('.-'):rep(20) .. 'b') do end end) end",
    ),
    ("gsub", "while true do pcall(string.gsub, ('a'):rep(1e5 // 1 | 0), ('.-'):rep(20) .. 'b', '') end"),
    (
        "plain find",
        "local a = ('a'):rep(1e6 // 1 | 0) while true do pcall(string.find, a, a:sub(1, 500000) .. 'b', 1, true) end",
    ),
    ("move", "table.move(setmetatable({}, { __index = function() return 1 end }), 1, 1e15 // 1 | 0, 1, {})"),
    ("insert", "table.insert(setmetatable({}, { __len = function() return 1 << 50 end }), 1, 1)"),
    ("remove", "table.remove(setmetatable({}, { __len = function() return 1 << 50 end }), 1)"),
    (
        "sort of huge strings",
        "local s = ('x'):rep(8e6 // 1 | 0) local t = {} for i = 1, 1e5 do t[i] = s end while true do pcall(table.sort, t) end",
    ),
    ("comparing", "local s = ('x'):rep(8e6 // 1 | 0) while true do local _ = s < s end"),
    ("concatenation", "local s = ('x'):rep(4e6 // 1 | 0) while true do local _ = s .. s end"),
    ("format", "while true do pcall(string.format, ('%99d'):rep(1000), 1) end"),
    ("quoting", "local s = ('\\0'):rep(4e6 // 1 | 0) while true do pcall(string.format, '%q', s) end"),
    (
        "format of a long string",
        "local s = ('x'):rep(8e6 // 1 | 0) while true do pcall(string.format, '%s', s) end",
    ),
    ("pack", "local s = ('x'):rep(8e6 // 1 | 0) while true do pcall(string.pack, 's', s) end"),
    (
        "unpack of bytes",
        "local s = string.pack('s', ('x'):rep(8e6 // 1 | 0)) while true do pcall(string.unpack, 's', s) end",
    ),
    ("unpack", "while true do pcall(table.unpack, {}, 1, 1e7 // 1 | 0) end"),
    ("load", "local s = ('x = 1 '):rep(10000) while true do load(s) end"),
    ("upper", "local s = ('x'):rep(8e6 // 1 | 0) while true do local _ = s:upper() end"),
    ("utf8", "local s = ('x'):rep(8e6 // 1 | 0) while true do utf8.len(s) end"),
];

#[tokio::test]
async fn no_library_function_runs_for_long_past_the_deadline() {
    for (name, source) in LONG {
        let script = script(source);
        let ctx = script.functions.root().with_timeout(Duration::from_millis(50));
        let outcome = script.call_with(&ctx, json!(null)).await;
        match outcome {
            // Some are done in no time, because there is nothing to do.
            Ok(_) => assert_eq!(name, "rep of nothing"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Deadline, "{name}: {error}"),
        }
        assert_next_call_works(&script, name).await;
    }
}

/// What takes memory until there is none.
pub(crate) const GREEDY: [&str; 7] = [
    "local t = {} for i = 1, 1e9 do t[i] = i end",
    "local s = 'x' while true do s = s .. s end",
    "local t = {} while true do t = { t } end",
    "local t = {} while true do t[#t + 1] = coroutine.create(print) end",
    "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e5 // 1 | 0) .. i end",
    "local t = {} while true do t[#t + 1] = function() return t end end",
    "local s = ('a'):rep(1000000) return #(s:gsub('.+', ('%0'):rep(100000)))",
];

#[tokio::test]
async fn memory_runs_out_and_the_vm_is_thrown_away() {
    for source in GREEDY {
        let script = script(source);
        let error = script.call(json!(null)).await.expect_err(source);
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{source}: {error}");
        assert_eq!(script.function.statistics().discarded, 1, "{source}");
        assert_next_call_works(&script, source).await;
    }
}

#[tokio::test]
async fn memory_that_runs_out_in_pcall_costs_the_vm_all_the_same() {
    for source in GREEDY {
        let script = script(&format!("return pcall(function() {source} end)"));
        assert_eq!(script.json(json!(null)).await, false, "{source}");
        assert_eq!(script.function.statistics().discarded, 1, "{source}");
        assert_next_call_works(&script, source).await;
    }
}

#[tokio::test]
async fn running_out_of_memory_again_and_again_ends_at_the_deadline() {
    for source in GREEDY {
        let script = script(&format!("while true do pcall(function() {source} end) end"));
        let ctx = script.functions.root().with_timeout(Duration::from_millis(100));
        let error = script.call_with(&ctx, json!(null)).await.expect_err(source);
        assert_eq!(error.kind(), ErrorKind::Deadline, "{source}: {error}");
        assert_next_call_works(&script, source).await;
    }
}

#[tokio::test]
async fn a_replacement_of_nothing_many_times_takes_steps() {
    let source = "local s = ('a'):rep(1000000) s:gsub('()', ('%2'):rep(3)) ";
    let error = script(source).call(json!(null)).await.unwrap_err();
    assert!(error.message().contains("invalid capture index %2"), "{error}");
    let script = script("return ('a'):rep(1000000):gsub('(b*)', ('%1'):rep(100000))");
    let ctx = script.functions.root().with_timeout(Duration::from_millis(50));
    let error = script.call_with(&ctx, json!(null)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
    assert_next_call_works(&script, "it").await;
}

#[tokio::test]
async fn failures_that_a_script_keeps_take_of_its_memory() {
    let script = script(
        "local kept, is_kept, n = {}, ..., 0
         for i = 1, 100 do
           local _, e = pcall(call, 'app:long')
           if type(e) ~= 'table' then error(e, 0) end
           if #tostring(e) < 1000000 then error('it lost its text') end
           e.message = nil
           if is_kept then kept[i] = e end
           n = n + 1
         end
         return n",
    );
    let long = async |_: frame_dispatch::CallContext, _: frame_dispatch::Payload| {
        Err(frame_dispatch::CallError::new(ErrorKind::Unavailable, "x".repeat(1_000_000)))
    };
    let long_id = crate::support::id("app:long");
    script.functions.register(long_id, frame_registry::Options::new(), long).unwrap();
    let error = script.call(json!(true)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert_next_call_works(&script, "it").await;
    assert_eq!(script.json(json!(false)).await, 100, "what it does not keep is given back");
}

#[tokio::test]
async fn recursion_without_end_is_an_error() {
    let sources = [
        "local function f() return 1 + f() end f()",
        "local function f() pcall(f) error('deeper') end f()",
        "local function f() return coroutine.wrap(f)() end f()",
        "local function f() while true do coroutine.wrap(f)() end end f()",
        "local function f(s) return (s:gsub('x', f)) end f('x')",
        "local m = {} m.__index = function(t, k) return t[k] end return setmetatable({}, m).x",
        "local t = setmetatable({}, { __tostring = function(t) return tostring(t) end }) tostring(t)",
        "local t = {} setmetatable(t, { __index = t }) return t.x",
        "assert(load('return ' .. ('('):rep(10000) .. '1' .. (')'):rep(10000)))",
        "assert(load('return ' .. ('{'):rep(10000) .. ('}'):rep(10000)))",
        "local function f() local x <close> = setmetatable({}, { __close = f }) end f()",
        "local f f = function(a, b) table.sort({ 1, 2, 3 }, f) return a < b end f(1, 2)",
    ];
    for source in sources {
        let script = script(source);
        let error = script.call(json!(null)).await.expect_err(source);
        assert!([ErrorKind::Internal, ErrorKind::Exhausted].contains(&error.kind()), "{source}: {error}");
        assert_next_call_works(&script, source).await;
    }
}

#[tokio::test]
async fn a_close_handler_of_a_function_that_a_library_calls_is_ended_with_it() {
    let source = "local m = { __close = function() while true do end end }
                  local t = { __tostring = function()
                    local x <close> = setmetatable({}, m)
                    while true do end
                  end }
                  while true do pcall(tostring, setmetatable({}, t)) end";
    let script = script(source);
    let ctx = script.functions.root().with_timeout(Duration::from_millis(20));
    let error = script.call_with(&ctx, json!(null)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
    assert_next_call_works(&script, "it").await;
}

#[tokio::test]
async fn an_argument_list_that_is_open_survives_being_suspended() {
    // Suspended again and again between the evaluation of a list and its use.
    let source = "local function many(n) if n == 0 then return end return n, many(n - 1) end
                  local function sum(...) local s = 0 for _, v in ipairs({ ... }) do s = s + v end return s end
                  local total = 0
                  for i = 1, 3000 do
                    local f = coroutine.wrap(function(...) return sum(many(50)) + select('#', ..., many(3)) end)
                    total = total + f(many(20)) + sum(many(10))
                  end
                  return total";
    let script = Script::new(source);
    let expected = 3000 * (1275 + 4 + 55);
    assert_eq!(script.json(json!(null)).await, expected);
}

#[tokio::test]
async fn dropping_a_call_throws_its_vm_away() {
    let script = script("call('app:forever')");
    let forever =
        async |_: frame_dispatch::CallContext, _: frame_dispatch::Payload| std::future::pending().await;
    script
        .functions
        .register(crate::support::id("app:forever"), frame_registry::Options::new(), forever)
        .unwrap();
    let mut call = Box::pin(script.call(json!(null)));
    assert!(futures_poll(&mut call).await);
    drop(call);
    let statistics = script.function.statistics();
    assert_eq!((statistics.running, statistics.idle, statistics.discarded), (0, 0, 1));
    let retired = script.functions.unregister(&crate::support::id("app:forever")).unwrap();
    tokio::time::timeout(crate::support::GENEROUS, retired.drained())
        .await
        .expect("nothing holds the callee");
    assert_next_call_works(&script, "dropping").await;
}

/// Whether a future is pending after one poll.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|waker| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(waker).is_pending())
    })
    .await
}

#[tokio::test]
async fn a_function_that_is_removed_drains_and_is_gone() {
    let Script { functions, function } = script("while true do pcall(error) end");
    let ctx = functions.root().with_timeout(Duration::from_millis(20));
    let task = || frame_dispatch::Task::new(crate::support::id("app:script"));
    let (outcome, retired) = tokio::join!(ctx.call(task()), async {
        functions.unregister(&crate::support::id("app:script")).unwrap()
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Deadline);
    tokio::time::timeout(crate::support::GENEROUS, retired.drained()).await.expect("it is dropped");
    assert_eq!(function.statistics().running, 0);
}

#[tokio::test]
async fn a_fresh_vm_for_every_call() {
    let script = Script::with_config("return 1", LuaConfig::default().with_fresh_vm(true));
    for _ in 0..3 {
        assert_eq!(script.json(json!(null)).await, 1);
    }
    let statistics = script.function.statistics();
    assert_eq!((statistics.built, statistics.idle, statistics.discarded), (3, 0, 3));
}

#[tokio::test]
async fn a_script_that_uses_most_of_its_memory_is_not_collected_at_each_step() {
    // An entry of a weak table lives until the next collection.
    let script = Script::new(
        "local held = {}
        for i = 1, 24 do held[i] = ('x'):rep(1 << 20) .. i end
        local canary, collections = setmetatable({}, { __mode = 'v' }), 0
        local steps = {
            rep = function() return ('x'):rep(1000) end,
            gsub = function() return (('x'):rep(100):gsub('x', 'y')) end,
            format = function() return ('%d %s'):format(1, 'x') end,
            concat = function() return table.concat({ 'a', 'b', 'c' }) end,
            log = function() log.info('a line', { n = 1 }) end,
            call = function() return call('app:echo', { 1, 2, 3 }) end,
        }
        for i = 1, 500 do
            steps[...]()
            if not canary[1] then
                collections = collections + 1
                canary[1] = {}
            end
        end
        return collections",
    );
    let echo = async |_: CallContext, payload: Payload| Ok::<_, CallError>(payload);
    script.functions.register(id("app:echo"), Options::new(), echo).unwrap();
    for step in ["rep", "gsub", "format", "concat", "log", "call"] {
        let collections = script.json(json!(step)).await.as_u64().unwrap();
        assert!(collections <= 10, "{step}: {collections} collections in 500 steps");
    }
}

#[tokio::test]
async fn a_function_has_no_vm_before_its_first_call_unless_it_is_to_be_warm() {
    let engine = LuaEngine::builder().build().unwrap();
    let idle = |function: &LuaFunction| function.statistics().idle;
    let cold = engine.function("cold", "return 1", LuaConfig::default()).unwrap();
    assert_eq!(idle(&cold), 0);
    let pool = PoolConfig::default().with_warm(2);
    let warm = engine.function("warm", "return 1", LuaConfig::default().with_pool(pool)).unwrap();
    assert_eq!(idle(&warm), 2);
}

#[test]
fn a_script_that_does_not_compile_is_refused_also_without_a_vm() {
    let engine = LuaEngine::builder().build().unwrap();
    // Functions that share a source are told the same, each with its own name.
    let source: Arc<str> = "return return".into();
    for chunk in ["one", "one", "two"] {
        let error =
            engine.function(chunk, Arc::clone(&source), LuaConfig::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("{chunk}:1: unexpected symbol near 'return'")), "{error}");
    }
    engine.function("one", "return 1", LuaConfig::default()).unwrap();
}

#[test]
fn a_script_needs_the_memory_to_be_compiled_in() {
    let engine = LuaEngine::builder().build().unwrap();
    let source: Arc<str> = "x = { 1, 2, 3 }\n".repeat(50_000).into();
    for warm in [0, 1] {
        let config = LuaConfig::default().with_pool(PoolConfig::default().with_warm(warm));
        let small = engine.function("small", Arc::clone(&source), config.clone().with_memory(1 << 20));
        assert!(matches!(small, Err(LuaError::Vm { .. })), "{small:?}");
        engine.function("large", Arc::clone(&source), config).unwrap();
    }
}
