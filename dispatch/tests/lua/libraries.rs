//! The libraries, against those of stock Lua, and what is different.

use frame_dispatch::lua::mlua::{Lua, LuaOptions, StdLib};
use serde_json::json;

use crate::support::{Script, failed, returned};

/// Each gives a string, the same in both.
const SAME: [&str; 38] = [
    "local t = { 3, 1, 2 } table.sort(t) return table.concat(t, ',')",
    "local t = { 3, 1, 2 } table.sort(t, function(a, b) return a > b end) return table.concat(t, ',')",
    "local t = {} for i = 1, 5000 do t[i] = (i * 7919) % 5003 end table.sort(t) return table.concat(t, ' ')",
    "local t = {} for i = 1, 5000 do t[i] = 'x' .. i % 100 end return table.concat(t, '-', 17, 4999)",
    "local t = {} for i = 1, 5000 do t[i] = i end table.insert(t, 3, 'x') return table.concat(t, ',', 1, 10) .. #t",
    "local t = {} for i = 1, 5000 do t[i] = i end return table.remove(t, 3) .. table.remove(t) .. t[3] .. #t",
    "local t = { 1, 2, 3 } return table.remove(t, 1) .. tostring(table.remove(t, 3)) .. #t",
    "return tostring(table.remove({}, 0)) .. tostring(table.remove({}))",
    "local t = setmetatable({ [0] = 'x' }, { __len = function() return 0 end })
     return table.remove(t, 0) .. tostring(table.remove(t)) .. tostring(table.remove(t, 1)) .. tostring(pcall(table.remove, t, 2))",
    "return table.concat(table.move({ 1, 2, 3, 4, 5 }, 2, 5, 1), ',')",
    "local t = {} for i = 1, 6000 do t[i] = i end table.move(t, 1, 6000, 3) return table.concat(t, ',', 1, 6) .. #t",
    "local t = {} for i = 1, 6000 do t[i] = i end table.move(t, 3, 6000, 1) return table.concat(t, ',', 1, 6) .. #t",
    "return table.concat({ table.unpack({ 1, 2, 3 }, 2) }, ',')",
    "return table.concat({ table.unpack(setmetatable({}, { __index = function(_, k) return k * 2 end }), 1, 3) }, ',')",
    "return table.pack(1, nil, 3).n .. ''",
    "local t = setmetatable({}, { __len = function() return 3 end, __index = function(_, k) return k end })
     return table.concat(t, '+')",
    "local log = {} local t = setmetatable({}, { __newindex = function(_, k, v) log[#log + 1] = k .. '=' .. v end })
     table.insert(t, 'a') return log[1]",
    "return ('x'):rep(3, ',') .. ('x'):rep(0) .. ('x'):rep(-1) .. ('ab'):rep(100) .. ('ab'):rep(100, '--')",
    "return ('x'):rep(70, ',') .. ('x'):rep(1000, 'abc') .. #(''):rep(1e3 // 1 | 0, 'x')",
    "return ('hello'):upper():lower():reverse():sub(2, -2) .. ('x'):byte() .. #'abc'",
    "return string.format('%5.2f|%q|%s|%x|%-5d|%s', 3.14159, 'a\\n', {} ~= nil, 255, 7, nil)",
    "return string.format('%s', setmetatable({}, { __tostring = function() return 'mine' end }))",
    "return tostring(utf8.len('añb')) .. utf8.char(241, 98) .. utf8.codepoint('ñ') .. utf8.offset('añb', 3)",
    "local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end)
     local r = { coroutine.resume(co, 1) } r[3], r[4] = coroutine.resume(co, 10)
     r[5], r[6] = coroutine.resume(co) for i = 1, 6 do r[i] = tostring(r[i]) end
     return table.concat(r, ',') .. coroutine.status(co)",
    "local co = coroutine.create(function() return end) return select('#', coroutine.resume(co)) .. ''",
    "local co = coroutine.create(function() return nil, nil end) return select('#', coroutine.resume(co)) .. ''",
    "local co = coroutine.create(function() coroutine.yield() end) return select('#', coroutine.resume(co)) .. ''",
    "local f = coroutine.wrap(function() error({ 'x' }) end) local ok, e = pcall(f) return tostring(ok) .. e[1]",
    "local out = {} for v in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) do out[#out + 1] = v end
     return table.concat(out, ',')",
    "local log = '' local co = coroutine.create(function()
       local x <close> = setmetatable({}, { __close = function() log = log .. 'closed' end }) coroutine.yield() end)
     coroutine.resume(co) return tostring(coroutine.close(co)) .. log .. coroutine.status(co)",
    "return tostring(select(2, coroutine.running())) .. tostring(coroutine.isyieldable())
       .. coroutine.wrap(function() return tostring(select(2, coroutine.running())) .. tostring(coroutine.isyieldable()) end)()",
    "local ok, e = pcall(coroutine.yield) return e",
    "local ok, e = pcall(function() coroutine.yield() end) return e",
    "return select(2, pcall(coroutine.wrap, {})) .. select(2, pcall(string.rep)) .. select(2, pcall(setmetatable))",
    "return select(2, pcall(table.sort, 1)) .. select(2, pcall(string.gsub, 'x', 'x')) .. select(2, pcall(load, {}))",
    "local f = load('return ...') return f(7) .. tostring(load('x =')) .. select(2, load('x =', '=name'))",
    "local n = 0 local f = load(function() n = n + 1 return ({ 'return ', '1 + ', '2' })[n] end) return f() .. ''",
    "local env = { y = 5 } return load('return y', 'c', 't', env)() .. tostring(load('return y', 'c', 't')())",
];

#[tokio::test]
async fn the_libraries_do_as_those_of_stock_lua_do() {
    let libraries = StdLib::STRING | StdLib::TABLE | StdLib::COROUTINE | StdLib::UTF8 | StdLib::MATH;
    for source in SAME {
        let stock = Lua::new_with(libraries, LuaOptions::new()).unwrap();
        let expected: String = stock.load(source).call(()).expect(source);
        assert_eq!(returned(source).await, json!(expected), "{source}");
    }
}

#[tokio::test]
async fn sorting_survives_any_comparison() {
    let source = "local t = {} for i = 1, 3000 do t[i] = i end
                  table.sort(t, function() return true end)
                  table.sort(t, function() return math.random() < 0.5 end)
                  table.sort(t)
                  for i = 1, 3000 do assert(t[i] == i) end
                  return pcall(table.sort, { 1, 'x', {} })";
    assert_eq!(returned(source).await, false);
}

#[tokio::test]
async fn what_has_a_metatable_is_sorted_through_it() {
    let source = "local store = { 3, 1, 2 }
                  local proxy = setmetatable({}, {
                    __len = function() return #store end,
                    __index = function(_, i) return store[i] end,
                    __newindex = function(_, i, v) store[i] = v end,
                  })
                  table.sort(proxy)
                  local sorted = table.concat(store, ',')
                  table.sort(proxy, function(a, b) return a > b end)
                  return { sorted, table.concat(store, ','), select(2, pcall(table.sort, proxy, {})) }";
    let expected =
        json!(["1,2,3", "3,2,1", "bad argument #2 to 'table.sort' (function expected, got table)"]);
    assert_eq!(returned(source).await, expected);
}

#[tokio::test]
async fn format_takes_as_much_as_it_formats_at_once() {
    let source = "local many = {} for i = 1, 10000 do many[i] = 1 end
                  local function fails(...) local ok, e = pcall(string.format, ...) return not ok and e end
                  return {
                    #string.format('%q', ('x'):rep(1 << 20)),
                    fails('%s %% %q', 1, ('x'):rep((1 << 20) + 1)),
                    #string.format('%s q', ('x'):rep((1 << 20) + 1)),
                    fails('', table.unpack(many)),
                  }";
    let expected = json!([
        (1 << 20) + 2,
        "bad argument #3 to 'string.format' (string too long to be quoted)",
        (1 << 20) + 3,
        "too many values to format"
    ]);
    assert_eq!(returned(source).await, expected);
}

#[tokio::test]
async fn a_callback_can_wait() {
    let script = Script::new(
        "local out = {}
         local function wait(x) out[#out + 1] = call('app:script', x) return x end
         if ... then return ... end
         table.sort({ 2, 1 }, function(a, b) return wait(a) < b end);
         ('ab'):gsub('.', wait)
         pcall(wait, 'pcall')
         load(function() wait('load') end)
         return out",
    );
    assert_eq!(script.json(json!(null)).await, json!([1, "a", "b", "pcall", "load"]));
}

#[tokio::test]
async fn loaded_code_has_the_environment_of_its_call() {
    assert_eq!(returned("load('x = 5')() return x").await, 5);
    assert_eq!(returned("return load('return frame.get(\\'function\\')')()").await, "app:script");
    assert_eq!(returned("return load('return 1', 'c', 'b') == nil").await, true);
    assert_eq!(returned("return (load('\\x1bLua'))").await, json!(null));
    assert_eq!(returned("return (load((' '):rep(70000)))").await, json!(null));
    let error = failed("load('error(\\'in it\\')', '=loaded')()").await;
    assert_eq!(error.message(), "loaded:1: in it");
}

#[tokio::test]
async fn os_tells_the_time_in_utc() {
    let source = "local t = { year = 2026, month = 14, day = -3, hour = 25, min = 61, sec = 61 }
                  local time = os.time(t)
                  return { time, os.date('!%Y-%m-%d %H:%M:%S', time), os.date('%Y-%m-%d %H:%M:%S', time),
                           t.year, t.month, t.day, t.hour, t.min, t.sec, t.wday, t.yday, t.isdst }";
    // The day is 2027-01-28, and the time is past its end.
    let expected = json!([
        1_801_188_121,
        "2027-01-29 02:02:01",
        "2027-01-29 02:02:01",
        2027,
        1,
        29,
        2,
        2,
        1,
        6,
        29,
        false
    ]);
    assert_eq!(returned(source).await, expected);
    let source =
        "for _, time in ipairs { 0, -1, 951782400, 951868800, 4102444800, -2208988800, -62167219200 } do
                    local back = os.time(os.date('*t', time))
                    if back ~= time then return { time, back } end
                  end
                  return os.date('*t', 951782400).month";
    assert_eq!(returned(source).await, 2);
    assert_eq!(returned("local now = os.time() return now > 1700000000 and math.type(now)").await, "integer");
    assert_eq!(
        returned("local c = os.clock() for i = 1, 1e5 do end return os.clock() > c and c < 60").await,
        true
    );
    for (source, message) in [
        ("os.time({})", "script:1: field 'year' missing in date table"),
        ("os.time({ year = 'x', month = 1, day = 1 })", "field 'year' is not an integer"),
        ("os.time({ year = 1 << 40, month = 1, day = 1 })", "field 'year' is out-of-bound"),
        ("os.date(('%c'):rep(10000))", "bad argument #1 to 'date' (format too long)"),
        ("os.date('%Ez', 0)", "invalid conversion specifier '%Ez'"),
    ] {
        let error = failed(source).await;
        assert!(error.message().contains(message), "{source}: {error}");
    }
}

#[tokio::test]
async fn errors_of_library_functions_name_the_place_in_the_script() {
    for (source, message) in [
        ("\ntable.insert({}, 5, 1)", "script:2: bad argument #2 to 'insert' (position out of bounds)"),
        (
            "\ntable.insert(setmetatable({}, {}), 5, 1)",
            "script:2: bad argument #2 to 'insert' (position out of bounds)",
        ),
        ("\ntable.sort({ 1, 'x' })", "attempt to compare"),
        (
            "\ntable.sort({ 3, 2, 1 }, 5)",
            "script:2: bad argument #2 to 'sort' (function expected, got number)",
        ),
        ("\ntable.concat({ 1, {}, 3 })", "script:2: invalid value (table) at index 2 in table for 'concat'"),
        ("\nlocal t = table.unpack({}, 1, 1e7)", "script:2: too many results to unpack"),
        (
            "\nlocal s = ('x'):gsub('x', true)",
            "script:2: bad argument #2 to 'gsub' (string/function/table expected, got boolean)",
        ),
        (
            "\nlocal s = ('x'):gsub('x', function() return {} end)",
            "script:2: invalid replacement value (a table)",
        ),
        ("\nlocal s = ('x'):find('[')", "script:2: malformed pattern (missing ']')"),
        ("\nfor w in ('x'):gmatch('%') do end", "script:2: malformed pattern (ends with '%')"),
        ("\nlocal s = ('x'):rep(1 << 60)", "script:2: resulting string too large"),
        ("\ncoroutine.resume(5)", "script:2: bad argument #1 to 'resume' (coroutine expected, got number)"),
        ("\ncoroutine.close(coroutine.running())", "script:2: cannot close a running coroutine"),
        (
            "\nsetmetatable({}, 5)",
            "script:2: bad argument #2 to 'setmetatable' (nil or table expected, got number)",
        ),
        ("\nsetmetatable(_ENV, {})", "script:2: cannot change a protected metatable"),
        ("\nload(5.5, {})", "script:2: bad argument #2 to 'load' (string expected, got table)"),
        ("\nxpcall(print)", "script:2: bad argument #2 to 'xpcall' (function expected, got no value)"),
        ("\ncall({})", "the id of a function is a string"),
        ("\nframe.get({})", "script:2: "),
        ("\nos.time(5)", "script:2: "),
        ("\nstring.unpack(('x'):rep(70000), '')", "script:2: bad argument #1 to 'unpack' (format too long)"),
    ] {
        let error = failed(source).await;
        assert!(error.message().contains(message), "{source}: {error}");
        assert!(!error.message().contains("[frame]"), "{source}: {error}");
    }
}

#[tokio::test]
async fn running_out_of_stack_is_no_lack_of_memory() {
    for source in [
        "local function f() return 1 + f() end f()",
        "local function f(n) if n > 0 then f(n - 1) end end f(1e7 // 1 | 0)",
        "coroutine.wrap(function() local function f() return 1 + f() end f() end)()",
    ] {
        let error = failed(source).await;
        assert!(error.message().contains("stack overflow"), "{source}: {error}");
        let caught = format!("local ok, e = pcall(function() {source} end) return e");
        let caught = returned(&caught).await;
        assert!(caught.as_str().is_some_and(|text| text.contains("stack overflow")), "{source}: {caught}");
    }
}
