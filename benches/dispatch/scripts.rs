//! What scripts compute, in the sandbox and in plain Lua: the same chunks, in one run, the fastest of several rounds each.

use std::hint::black_box;
use std::time::{Duration, Instant};

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaModule, ModuleBuilder};
use frame_dispatch::{Functions, Payload, Task};
use frame_registry::{App, Options};
use mlua::{Function, Lua, LuaOptions, LuaSerdeExt, StdLib, Value};
use serde_json::{Value as Json, json};

/// The rounds of each script, of which the fastest counts.
const ROUNDS: usize = 7;

/// A name, the budget, and a script.
const SCRIPTS: &[(&str, f64, &str)] = &[
    ("fib(24)", 1.1, "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end return fib(24)"),
    ("a loop of 2 million", 1.1, "local x = 0 for i = 1, 2000000 do x = x + i % 7 end return x"),
    ("nested loops over tables", 1.1, "local t = {} for i = 1, 300 do t[i] = {} for j = 1, 300 do t[i][j] = i * j end end
        local sum = 0 for i = 1, 300 do for j = 1, 300 do sum = sum + t[i][j] end end return sum"),
    ("a loop with 4 MB live", 1.1, "local live = {} for i = 1, 40000 do live[i] = { i, i + 1 } end
        local x = 0 for i = 1, 1000000 do x = x + i % 7 end return x + #live"),
    ("closures", 1.1, "local function adder(n) return function(x) return x + n end end
        local x = 0 for i = 1, 200000 do x = adder(i)(x) % 1000 end return x"),
    ("methods", 1.1, "local C = {} C.__index = C function C:add(n) self.n = self.n + n end
        local o = setmetatable({ n = 0 }, C) for i = 1, 400000 do o:add(i) end return o.n"),
    ("globals and math", 1.1, "local x = 0 for i = 1, 300000 do x = x + math.floor(i / 3) + math.max(i, 5) end return x"),
    ("string building with ..", 1.1, "local n = 0 for i = 1, 60000 do local s = 'item ' .. i .. ', ' n = n + #s end return n"),
    ("string building with concat", 1.1, "local t = {} for i = 1, 60000 do t[#t + 1] = 'item ' .. i end return #table.concat(t, ', ')"),
    ("table.insert at the end", 1.1, "local t = {} for i = 1, 200000 do table.insert(t, i) end return #t"),
    ("table.insert at the front", 1.1, "local t = {} for i = 1, 3000 do table.insert(t, 1, i) end return #t"),
    ("table.remove from the end", 1.1, "local t = {} for i = 1, 200000 do t[i] = i end for i = 1, 200000 do table.remove(t) end return #t"),
    ("table.unpack of 8", 1.1, "local t, x = { 1, 2, 3, 4, 5, 6, 7, 8 }, 0 for i = 1, 200000 do local a, b, c = table.unpack(t) x = x + c end return x"),
    ("table.concat of 8", 1.1, "local t, x = { 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h' }, 0 for i = 1, 100000 do x = x + #table.concat(t, ',') end return x"),
    ("sort of 3 000 numbers", 2.0, "local x = 42 local function r() x = (x * 1103515245 + 12345) % 2147483648 return x end
        for n = 1, 5 do local t = {} for i = 1, 3000 do t[i] = r() end table.sort(t) end return x"),
    ("sort of 30 000 numbers", 2.0, "local x = 42 local function r() x = (x * 1103515245 + 12345) % 2147483648 return x end
        local t = {} for i = 1, 30000 do t[i] = r() end table.sort(t) return x"),
    ("sort of 5 000 strings", 2.0, "local x = 42 local function r() x = (x * 1103515245 + 12345) % 2147483648 return x end
        local t = {} for i = 1, 5000 do t[i] = 'key ' .. r() end table.sort(t) return x"),
    ("sort with a function", 2.0, "local x = 42 local function r() x = (x * 1103515245 + 12345) % 2147483648 return x end
        local t = {} for i = 1, 10000 do t[i] = r() end table.sort(t, function(a, b) return a > b end) return x"),
    ("sort with a function, sorted before", 2.0, "local t = {} for i = 1, 10000 do t[i] = i end table.sort(t, function(a, b) return a < b end) return #t"),
    ("plain find in 60 bytes", 2.0, "local s, n = 'the quick brown fox jumps over the lazy dog and then sleeps', 0
        for i = 1, 200000 do n = n + s:find('lazy', 1, true) end return n"),
    ("plain find in 1 MB", 2.0, "local s, n = ('abcdefghi '):rep(100000) .. 'needle', 0 for i = 1, 20 do n = n + s:find('needle', 1, true) end return n"),
    ("find a pattern", 2.0, "local s, n = 'the year 2026, the month 11', 0 for i = 1, 200000 do n = n + s:find('%d+') end return n"),
    ("match captures", 2.0, "local n = 0 for i = 1, 100000 do local k, v = ('key = value'):match('^(%w+)%s*=%s*(%w+)$') n = n + #k + #v end return n"),
    ("match to trim", 2.0, "local n = 0 for i = 1, 100000 do n = n + #('   some text with spaces   '):match('^%s*(.-)%s*$') end return n"),
    ("gmatch of words", 2.0, "local s, n = ('word another third '):rep(2000), 0 for i = 1, 5 do for w in s:gmatch('%a+') do n = n + #w end end return n"),
    ("gmatch of pairs", 2.0, "local s, n = ('key=value, '):rep(2000), 0 for i = 1, 5 do for k, v in s:gmatch('(%w+)=(%w+)') do n = n + #k + #v end end return n"),
    ("gsub with a string", 2.0, "local s, n = ('hello world '):rep(2000), 0 for i = 1, 5 do n = n + #s:gsub('%w+', '<%0>') end return n"),
    ("gsub with a string, short", 2.0, "local n = 0 for i = 1, 60000 do n = n + #('hello world'):gsub('o', '0') end return n"),
    ("gsub with a function", 2.0, "local s, n = ('hello world '):rep(2000), 0 for i = 1, 5 do n = n + #s:gsub('%w+', function(w) return w end) end return n"),
    ("gsub with a table", 2.0, "local s, n, t = ('hello world '):rep(2000), 0, { hello = 'HELLO' } for i = 1, 5 do n = n + #s:gsub('%w+', t) end return n"),
    ("string.format", 2.0, "local n = 0 for i = 1, 100000 do n = n + #string.format('%d: %s %5.2f', i, 'text', i / 3) end return n"),
    ("string.rep, sub, byte, upper", 1.1, "local n = 0 for i = 1, 100000 do n = n + #('ab'):rep(10) + #('hello'):sub(2, 4) + ('x'):byte() + #('abc'):upper() end return n"),
    ("string.pack and unpack", 2.0, "local n = 0 for i = 1, 60000 do local a, b = string.unpack('<I4s2', string.pack('<I4s2', i, 'text')) n = n + a + #b end return n"),
    ("pcall", 1.1, "local x = 0 local function f(n) return n + 1 end for i = 1, 200000 do local _, y = pcall(f, i) x = x + y end return x"),
    ("pcall of an error", 1.5, "local x = 0 local function f() error('no', 0) end for i = 1, 60000 do if not pcall(f) then x = x + 1 end end return x"),
    ("xpcall", 2.0, "local x = 0 local function f(n) return n + 1 end local function h(e) return e end for i = 1, 100000 do local _, y = xpcall(f, h, i) x = x + y end return x"),
    ("coroutine switches", 1.1, "local co = coroutine.wrap(function() for i = 1, 200000 do coroutine.yield(i) end end)
        local x = 0 for i = 1, 200000 do x = x + co() end return x"),
    ("coroutines, made and resumed", 1.5, "local x = 0 for i = 1, 30000 do local co = coroutine.create(function(a) return a + 1 end)
        local _, y = coroutine.resume(co, i) x = x + y end return x"),
    ("setmetatable", 1.5, "local m, x = { __index = function(_, k) return k end }, 0 for i = 1, 150000 do x = x + setmetatable({}, m)[i] end return x"),
    ("pairs and ipairs", 1.1, "local t, x = {}, 0 for i = 1, 1000 do t[i] = i end for n = 1, 100 do for _, v in ipairs(t) do x = x + v end for _, v in pairs(t) do x = x + v end end return x"),
    ("tostring and tonumber", 1.1, "local x = 0 for i = 1, 150000 do x = x + tonumber(tostring(i)) end return x"),
    ("utf8", 1.1, "local n = 0 for i = 1, 30000 do for _, c in utf8.codes('héllo wörld') do n = n + c end end return n"),
];

/// JSON as scripts have it: through the values of the VM.
struct JsonText;

impl LuaModule for JsonText {
    fn name(&self) -> &'static str {
        "json"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        let values = module.values();
        module.function("encode", move |lua, _, value: Value| {
            let text = values.encode(lua, &value, "the value")?;
            values.string(lua, &text, "the text")
        })?;
        let values = module.values();
        module.function("decode", move |lua, _, text: mlua::LuaString| {
            values.decode(lua, &text.as_bytes(), "the text")
        })
    }
}

/// About a megabyte of JSON, as a service returns it.
fn megabyte() -> Json {
    let items: Vec<_> = (0..7600)
        .map(|n| {
            json!({ "id": n, "name": format!("item number {n}"), "price": f64::from(n) / 4.0,
                    "tags": ["one", "two", n], "is_there": n % 2 == 0, "next": null })
        })
        .collect();
    json!({ "items": items })
}

struct Sandbox {
    runtime: tokio::runtime::Runtime,
    functions: Functions,
    engine: LuaEngine,
}

impl Sandbox {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it starts");
        let engine = LuaEngine::builder().module(JsonText).build().expect("the module is fine");
        Self { runtime, functions: Functions::new(App::builder().build()), engine }
    }

    fn register(&self, name: &str, source: &str) {
        let config = LuaConfig::default().with_memory(256 << 20).with_payload(64 << 20);
        let function = self.engine.function("bench.lua", source, config).expect("it compiles");
        let id = format!("bench:{name}").parse().expect("it is an id");
        self.functions.register(id, Options::new(), function).expect("the id is free");
    }

    fn call(&self, name: &str, payload: impl Into<Payload>) -> Payload {
        let task = Task::new(format!("bench:{name}").parse().expect("it is an id")).with_payload(payload);
        self.runtime.block_on(self.functions.root().call(task)).expect("it succeeds")
    }
}

/// The times of both, by turns, so that both see the same machine.
fn fastest(mut one: impl FnMut(), mut other: impl FnMut()) -> (Duration, Duration) {
    let mut fastest = (Duration::MAX, Duration::MAX);
    let timed = |work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    for _ in 0..ROUNDS {
        fastest.0 = fastest.0.min(timed(&mut one));
        fastest.1 = fastest.1.min(timed(&mut other));
    }
    fastest
}

fn row(name: &str, budget: f64, (plain, sandboxed): (Duration, Duration)) {
    let ratio = sandboxed.as_secs_f64() / plain.as_secs_f64();
    let is_over = if ratio > budget { "  over" } else { "" };
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "| {name} | {:.2} | {:.2} | {ratio:.2} | {budget:.1} |{is_over}",
        milliseconds(plain),
        milliseconds(sandboxed)
    );
}

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let is_chosen = |name: &str| only.as_deref().is_none_or(|only| name.contains(only));
    let sandbox = Sandbox::new();
    println!("| script | plain Lua, ms | in the sandbox, ms | ratio | budget |");
    println!("|---|---:|---:|---:|---:|");
    for (index, (name, budget, source)) in SCRIPTS.iter().enumerate() {
        if !is_chosen(name) {
            continue;
        }
        let lua = Lua::new_with(StdLib::ALL_SAFE, LuaOptions::new()).expect("it has room");
        let plain: Function = lua.load(*source).into_function().expect("it compiles");
        let id = format!("s{index}");
        sandbox.register(&id, source);
        let expected: Json =
            plain.call::<Value>(()).and_then(|value| lua.from_value(value)).expect("it runs");
        assert_eq!(sandbox.call(&id, json!(null)).as_json(), Some(&expected), "{name}");
        let times = fastest(
            || {
                black_box(plain.call::<Value>(()).expect("it runs"));
            },
            || {
                black_box(sandbox.call(&id, json!(null)));
            },
        );
        row(name, *budget, times);
    }
    json_rows(&sandbox, &is_chosen);
}

/// Rows in which plain Lua has `mlua`'s conversion by serde.
fn json_rows(sandbox: &Sandbox, is_chosen: &dyn Fn(&str) -> bool) {
    let lua = Lua::new_with(StdLib::ALL_SAFE, LuaOptions::new()).expect("it has room");
    let document = megabyte();
    let text = document.to_string();
    sandbox.register("echo", "return ...");
    sandbox.register("decode", "return #json.decode(...).items");
    sandbox.register("encode", "local t = {} for i = 1, 7600 do t[i] = { id = i, name = 'item number ' .. i, price = i / 4, tags = { 'one', 'two', i } } end return #json.encode(t)");
    let echo: Function = lua.load("return ...").into_function().expect("it compiles");
    let count: Function = lua.load("return #(...).items").into_function().expect("it compiles");
    let make: Function = lua.load("local t = {} for i = 1, 7600 do t[i] = { id = i, name = 'item number ' .. i, price = i / 4, tags = { 'one', 'two', i } } end return t").into_function().expect("it compiles");
    if is_chosen("json echo") {
        let times = fastest(
            || {
                let value = lua.to_value(&document).expect("it fits");
                let value: Value = echo.call(value).expect("it runs");
                black_box(lua.from_value::<Json>(value).expect("it is JSON"));
            },
            || {
                black_box(sandbox.call("echo", document.clone()));
            },
        );
        row("json echo of 1 MB", 1.5, times);
    }
    if is_chosen("json decode") {
        let times = fastest(
            || {
                let value: Json = serde_json::from_str(&text).expect("it is JSON");
                let value = lua.to_value(&value).expect("it fits");
                black_box(count.call::<i64>(value).expect("it runs"));
            },
            || {
                black_box(sandbox.call("decode", json!(text)));
            },
        );
        row("json decode of 1 MB", 1.5, times);
    }
    if is_chosen("json encode") {
        let times = fastest(
            || {
                let value: Value = make.call(()).expect("it runs");
                black_box(serde_json::to_string(&value).expect("it is JSON"));
            },
            || {
                black_box(sandbox.call("encode", json!(null)));
            },
        );
        row("json encode of 7 600 tables", 1.5, times);
    }
}
