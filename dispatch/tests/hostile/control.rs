//! Attacks on what suspends and ends a script: coroutines, metamethods, error handlers, recursion.

use crate::support::Expected::{Deadline, Ends, Fails, Returns, Stalls};
use crate::support::{attack, run, sized};

#[test]
fn coroutines() {
    run(&[
        attack("a loop in a coroutine", Deadline, "coroutine.wrap(function() while true do end end)()"),
        attack(
            "coroutines in coroutines",
            Deadline,
            "local function f(n) if n > 0 then for i = 1, 8 do coroutine.wrap(f)(n - 1) end end end
             while true do f(150) end",
        ),
        attack(
            "a factory in pcall",
            Deadline,
            "local function f() while true do pcall(coroutine.wrap(f)) end end f()",
        ),
        attack(
            "yields",
            Deadline,
            "local co = coroutine.wrap(function() while true do coroutine.yield() end end)
             while true do co() end",
        ),
        attack(
            "a yield across pcall",
            Deadline,
            "local co = coroutine.wrap(function() while true do pcall(coroutine.yield) end end)
             while true do co() end",
        ),
        attack(
            "a yield in a metamethod",
            Deadline,
            "local t = setmetatable({}, { __index = function() coroutine.yield() end })
            local co = coroutine.wrap(function() while true do local _ = t.x end end)
            while true do co() end",
        ),
        attack(
            "close of a coroutine that does not end",
            Ends,
            "local co = coroutine.create(function()
             local x <close> = setmetatable({}, { __close = function()
             while true do end end }) coroutine.yield() end)
            coroutine.resume(co) coroutine.close(co)",
        ),
        attack(
            "a coroutine that resumes itself",
            Returns(0),
            "local co co = coroutine.create(function() return coroutine.resume(co) end) coroutine.resume(co)
             return 0",
        ),
        attack(
            "a yield of many values",
            Deadline,
            "local t = {} for i = 1, 100000 do t[i] = i end
            local co = coroutine.wrap(function() while true do coroutine.yield(table.unpack(t)) end end)
            while true do co() end",
        ),
        attack("a yield of the script itself", Ends, "while true do coroutine.yield() end"),
    ]);
}

#[test]
fn metamethods() {
    run(&[
        // Lua moves all arguments by one each time that it looks for what to call.
        attack("a __call of itself", Stalls, {
            let count = sized("1000000", "20000");
            format!(
                "local t = setmetatable({{}}, {{}}) getmetatable(t).__call = t local a = {{}}
                 for i = 1, {count} // 50 do a[i] = i end
                 while true do pcall(t, table.unpack(a)) end"
            )
        }),
        attack(
            "an __index that does not end",
            Deadline,
            "return setmetatable({}, { __index = function() while true do end end }).x",
        ),
        attack(
            "an __index of itself",
            Fails("loop"),
            "local t = {} setmetatable(t, { __index = t }) return t.x",
        ),
        attack(
            "an __index that recurses",
            Fails("overflow"),
            "local m = {} m.__index = function(t, k) return t[k] end return setmetatable({}, m).x",
        ),
        attack(
            "a chain of __index",
            Deadline,
            "local t = {} for i = 1, 1900 do t = setmetatable({}, { __index = t }) end while true do
             local _ = t.x end",
        ),
        attack(
            "a __tostring that does not end",
            Ends,
            "tostring(setmetatable({}, { __tostring = function() while true do end end }))",
        ),
        attack(
            "a __tostring of itself",
            Fails("overflow"),
            "local t = setmetatable({}, { __tostring = function(t) return tostring(t) end }) tostring(t)",
        ),
        attack(
            "a __concat that does not end",
            Deadline,
            "return setmetatable({}, { __concat = function() while true do end end }) .. 'x'",
        ),
        attack(
            "an __eq that does not end",
            Deadline,
            "local m = { __eq = function() while true do end end }
             return setmetatable({}, m) == setmetatable({}, m)",
        ),
        attack(
            "a __close that does not end",
            Deadline,
            "local x <close> = setmetatable({}, { __close = function() while true do end end })",
        ),
        attack(
            "a __close that raises for ever",
            Deadline,
            "local m = { __close = function() error('x') end } while true do pcall(function()
             local x <close> = setmetatable({}, m) error('y') end) end",
        ),
        attack(
            "a __pairs that does not end",
            Deadline,
            "for _ in pairs(setmetatable({}, { __pairs = function() return function()
             return 1 end end })) do end",
        ),
        attack(
            "a __gc",
            Fails("__gc is not allowed"),
            "setmetatable({}, { __gc = function() while true do end end })",
        ),
        attack("weak keys", Fails("weak keys is not allowed"), "setmetatable({}, { __mode = 'kv' })"),
        attack(
            "a __len that does not end",
            Ends,
            "return #table.pack(table.unpack(setmetatable({}, { __len = function()
             while true do end end })))",
        ),
        attack(
            "an __lt that does not end",
            Deadline,
            "local m = { __lt = function() while true do end end }
             local a = setmetatable({}, m) table.sort({ a, a, a })",
        ),
    ]);
}

#[test]
fn error_handlers() {
    run(&[
        attack("pcall of error", Deadline, "while true do pcall(error) end"),
        attack(
            "nested pcall",
            Deadline,
            "local function f(n) if n == 0 then while true do end end pcall(f, n - 1)
             while true do end end f(50)",
        ),
        attack("a handler that does not end", Ends, "xpcall(error, function() while true do end end)"),
        attack(
            "handlers that do not end",
            Ends,
            "while true do xpcall(error, function() while true do end end) end",
        ),
        attack(
            "a handler that raises",
            Deadline,
            "while true do xpcall(error, function() error('again') end) end",
        ),
        attack(
            "a handler that handles",
            Ends,
            "local function h(e) return select(2, xpcall(error, h, e)) end
             while true do xpcall(error, h) end",
        ),
        attack(
            "a deep error",
            Deadline,
            "local function f(n) if n == 0 then error('x') end return 1 + f(n - 1) end
             while true do pcall(f, 10000) end",
        ),
        attack("a long message", Ends, "while true do pcall(error, ('x'):rep(10000000)) end"),
        attack("a long message, not caught", Fails("xxxx"), "error(('x'):rep(10000000))"),
        attack(
            "an unknown kind",
            Fails("raised with the unknown kind \"foo\"; the kinds are"),
            "error { kind = 'foo' }",
        ),
        attack(
            "an unknown kind of megabytes",
            Fails("raised with the unknown kind"),
            "error { kind = ('x'):rep(5000000), message = ('y'):rep(5000000) }",
        ),
        attack(
            "an error that describes itself for ever",
            Ends,
            "error(setmetatable({}, { __tostring = function() while true do end end }))",
        ),
    ]);
}

#[test]
fn recursion() {
    run(&[
        attack("recursion", Fails("stack overflow"), "local function f() return 1 + f() end f()"),
        attack(
            "recursion with many values",
            Fails("stack overflow"),
            "local function f(...) return 1 + f(1, 2, 3, ...) end f()",
        ),
        attack("recursion with large frames", Fails("stack overflow"), {
            let locals = "local a = 1 ".repeat(190);
            format!("local function f() {locals} return 1 + f() end f()")
        }),
        attack(
            "mutual recursion",
            Fails("stack overflow"),
            "local g local function f() return 1 + g() end function g() return 1 + f() end f()",
        ),
        attack("recursion through pcall", Ends, "local function f() pcall(f) error('deeper') end f()"),
        attack("recursion through coroutines", Ends, "local function f() return coroutine.wrap(f)() end f()"),
        attack(
            "recursion through gsub",
            Fails("overflow"),
            "local function f(s) return (s:gsub('x', f)) end f('x')",
        ),
        attack(
            "recursion through load",
            Ends,
            "local function f() return load(f) end while true do pcall(f) end",
        ),
        attack(
            "recursion that is caught",
            Deadline,
            "local function f() return 1 + f() end while true do pcall(f) end",
        ),
        attack("tail calls", Deadline, "local function f() return f() end f()"),
    ]);
}
