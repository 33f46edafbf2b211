//! Attacks on the functions for strings.

use crate::support::Expected::{Deadline, Ends, Fails, Returns, Stalls};
use crate::support::{attack, run, sized};

#[test]
fn patterns() {
    run(&[
        attack("one find with .-.-b", Deadline, "return (('a'):rep(14000000):find('.-.-b'))"),
        attack(
            "find with many lazy items",
            Deadline,
            "return (('a'):rep(100000):find(('.-'):rep(20) .. 'b'))",
        ),
        attack(
            "find with many greedy items",
            Deadline,
            "return (('a'):rep(100000):find(('a*'):rep(20) .. 'b'))",
        ),
        attack("match with a back reference", Deadline, "return (('a'):rep(1000000):match('(a*)%1%1b'))"),
        attack(
            "a long set",
            Ends,
            "local set = '[' .. ('b'):rep(60000) .. ']' return (('a'):rep(10000000):find(set))",
        ),
        attack(
            "a long negated set",
            Ends,
            "local set = '[^' .. ('b'):rep(60000) .. ']*c'
             while true do pcall(string.find, ('a'):rep(1000000), set) end",
        ),
        attack("balanced parentheses", Deadline, "return (('('):rep(1000000):find('%b()'))"),
        attack(
            "a frontier",
            Deadline,
            "local set = '%f[' .. ('b'):rep(60000) .. ']'
             while true do local _ = ('a'):rep(10000000):find(set) end",
        ),
        attack(
            "gsub of everything",
            Deadline,
            "local s = ('a'):rep(1000000) while true do s:gsub('a', 'b') end",
        ),
        attack("gsub of nothing", Deadline, "local s = ('a'):rep(1000000) while true do s:gsub('', '') end"),
        attack(
            "gsub whose function never returns",
            Deadline,
            "('x'):gsub('x', function() while true do end end)",
        ),
        attack("gmatch", Deadline, "for _ in ('a'):rep(100000):gmatch(('.-'):rep(20) .. 'b') do end"),
        attack(
            "a pattern of many captures",
            Fails("too many captures"),
            "return (('a'):find(('()'):rep(100)))",
        ),
        attack(
            "a pattern that is long",
            Ends,
            "while true do pcall(string.find, 'aaaa', ('a?'):rep(1000000)) end",
        ),
        attack(
            "a plain needle",
            Deadline,
            "local a = ('a'):rep(5000000) while true do a:find(a:sub(1, 2500000) .. 'b', 1, true) end",
        ),
    ]);
}

#[test]
fn formatting() {
    run(&[
        attack(
            "unpack with a long format",
            Fails("format too long"),
            "return string.unpack(('b'):rep(14000000), 'x')",
        ),
        attack(
            "pack with a long format",
            Fails("format too long"),
            "return string.pack(('!'):rep(14000000))",
        ),
        attack(
            "many formats at the limit",
            Deadline,
            "local f = ('>'):rep(65000) while true do string.pack(f) end",
        ),
        attack(
            "widths",
            Deadline,
            "local f = ('%99.99f'):rep(9000) local t = {} for i = 1, 9000 do t[i] = -1.7e308 end
            while true do local _ = f:format(table.unpack(t)) end",
        ),
        attack(
            "more widths",
            Fails("too many values to format"),
            "local f = ('%99.99f'):rep(200000) local t = {} for i = 1, 200000 do t[i] = -1.7e308 end
            return #f:format(table.unpack(t))",
        ),
        attack(
            "quoting at the limit",
            Deadline,
            "local s = ('\\0'):rep(1 << 20) while true do local _ = ('%q'):format(s) end",
        ),
        attack(
            "a long format",
            Deadline,
            "local f = ('%d'):rep(200) local t = {} for i = 1, 200 do t[i] = i end while true do
             local _ = f:format(table.unpack(t)) end",
        ),
        attack(
            "a format without arguments",
            Ends,
            "while true do pcall(string.format, ('x'):rep(10000000)) end",
        ),
        attack(
            "a __tostring of megabytes",
            Deadline,
            "local s = ('x'):rep(4000000) local t = setmetatable({}, { __tostring = function()
             return s end })
            while true do local _ = ('%s'):format(t) end",
        ),
        attack(
            "numbers of many digits",
            Deadline,
            "local s = ('9'):rep(10000000) while true do local _ = tonumber(s) end",
        ),
        attack(
            "numbers of many digits in a base",
            Deadline,
            "local s = ('z'):rep(10000000) while true do local _ = tonumber(s, 36) end",
        ),
        attack(
            "arithmetic on long strings",
            Deadline,
            "local s = '0x' .. ('f'):rep(10000000) while true do local _ = s + 1 end",
        ),
        attack(
            "bytes of a long string",
            Ends,
            "local s = ('x'):rep(500000) while true do pcall(string.byte, s, 1, -1) end",
        ),
        attack("utf8.len", Deadline, "local s = ('x'):rep(8000000) while true do utf8.len(s) end"),
        attack(
            "utf8.offset",
            Deadline,
            "local s = ('\\u{10ffff}'):rep(2000000) while true do utf8.offset(s, 1900000) end",
        ),
        attack(
            "utf8.codepoint",
            Ends,
            "local s = ('x'):rep(500000) while true do pcall(utf8.codepoint, s, 1, -1) end",
        ),
        attack("dates", Deadline, "while true do os.date(('%c'):rep(400), 0) end"),
        attack(
            "reverse and upper",
            Deadline,
            "local s = ('x'):rep(8000000) while true do local _ = s:upper() _ = s:reverse() end",
        ),
    ]);
}

#[test]
fn comparing() {
    run(&[
        // Lua compares what is between two NUL bytes at once.
        attack("strings of NUL bytes", Stalls, {
            let count = sized("15000000", "4000000");
            format!(
                "local s = ('\\0'):rep({count}) local a, b = s .. 'a', s .. 'b' while true do
                 local _ = a < b end"
            )
        }),
        attack("long strings", Deadline, "local s = ('x'):rep(8000000) while true do local _ = s < s end"),
        attack(
            "equal strings",
            Deadline,
            "local a, b = ('x'):rep(8000000), ('x'):rep(8000000) while true do local _ = a == b end",
        ),
    ]);
}

#[test]
fn sorting() {
    run(&[
        attack(
            "sort with a comparison that never agrees",
            Deadline,
            "local t = {} for i = 1, 100000 do t[i] = i end
            while true do pcall(table.sort, t, function() return math.random(2) == 1 end) end",
        ),
        attack(
            "sort with a comparison that never returns",
            Deadline,
            "table.sort({ 3, 2, 1 }, function() while true do end end)",
        ),
        attack(
            "sort with a comparison that changes the table",
            Deadline,
            "local t = {} for i = 1, 10000 do t[i] = i end
            while true do pcall(table.sort, t, function(a, b) t[#t] = nil t[#t + 1] = 1
            return a < b end) end",
        ),
        attack(
            "sort of many",
            Deadline,
            "local t = {} for i = 1, 500000 do t[i] = i * 7919 % 500009 end
             while true do table.sort(t) table.sort(t, function(a, b) return a > b end) end",
        ),
        attack(
            "sort in a sort",
            Deadline,
            "local function f(a, b) table.sort({ 3, 2, 1 }, f) return a < b end
             while true do pcall(table.sort, { 2, 1 }, f) end",
        ),
        attack(
            "sort of few long strings",
            Deadline,
            "local s = ('x'):rep(6000000) local t = { s .. 'b', s .. 'a', s }
             while true do table.sort(t) end",
        ),
        attack(
            "sort of many equal strings",
            Deadline,
            "local s = ('x'):rep(1000) local t = {} for i = 1, 4096 do t[i] = s end
             while true do table.sort(t) end",
        ),
        attack(
            "sort of a proxy",
            Ends,
            "table.sort(setmetatable({}, { __len = function() return 1000000 end, __index = function(_, i)
             return i end, __newindex = function() end }))",
        ),
        attack(
            "sort that is handed something else",
            Returns(0),
            "pcall(table.sort, { 3, 'x', {} }) pcall(table.sort, setmetatable({}, { __len = function()
             return 1 << 40 end })) return 0",
        ),
    ]);
}
