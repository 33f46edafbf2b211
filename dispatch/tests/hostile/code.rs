//! Attacks on the compiler, and code without a loop.

use std::time::{Duration, Instant};

use frame_dispatch::lua::{LuaConfig, LuaEngine};

use crate::support::Expected::{Deadline, Ends, Returns, Stalls};
use crate::support::{alone, attack, run};

/// Code that is close to the longest source.
fn megabyte(line: &str) -> String {
    line.repeat((1_000_000) / line.len())
}

#[test]
fn straight_lines() {
    run(&[
        attack(
            "1 MB of additions",
            Returns(58823),
            format!("local x = 0 {} return x", megabyte("x = x + 1 --[[]]\n")),
        ),
        attack(
            "1 MB of garbage",
            Ends,
            format!("local s = ('x'):rep(1000000) local t {} return 0", megabyte("t = s .. 'x' ")),
        ),
        attack(
            "1 MB of comparisons",
            Ends,
            format!("local s = ('x'):rep(8000000) local t {} return 0", megabyte("t = s < s ")),
        ),
        attack(
            "1 MB of calls",
            Ends,
            format!("local s = ('x'):rep(8000000) local f = s.upper {} return 0", megabyte("f(s) ")),
        ),
        attack("one long table", Returns(0), format!("local t = {{ {} }} return 0", "1, ".repeat(100_000))),
        attack(
            "one long concatenation",
            Ends,
            format!(
                "local s = ('x'):rep(100000) local t = '' {} return 0",
                format!("t = s{} ", ".. s".repeat(150)).repeat(1000)
            ),
        ),
    ]);
}

#[test]
fn bombs() {
    run(&[
        attack("load of many", Deadline, "local s = ('x = 1 '):rep(10000) while true do load(s) end"),
        attack(
            "deep parentheses",
            Returns(0),
            "for _, p in ipairs { '()', '{}', '[]' }
             do load('return ' .. p:sub(1, 1):rep(30000) .. p:sub(2, 2):rep(30000)) end return 0",
        ),
        attack(
            "deep functions",
            Returns(0),
            "load(('return function() '):rep(3000) .. ('end '):rep(3000)) return 0",
        ),
        attack(
            "deep operators",
            Deadline,
            "local s = 'return ' .. ('-'):rep(60000) .. '1' local p = 'return ' .. ('1^'):rep(30000) .. '1'
             while true do load(s) load(p) end",
        ),
        attack(
            "a long list of or",
            Ends,
            "local s = 'a = ' .. ('b or '):rep(13000) .. 'b' while true do load(s) end",
        ),
        attack(
            "a long list of elseif",
            Ends,
            "local s = 'if a then ' .. ('elseif a then '):rep(4500) .. 'end' while true do load(s) end",
        ),
        attack(
            "many labels",
            Ends,
            "local t = {} for i = 1, 2000 do t[i] = 'goto a' .. i .. ' ' end
             for i = 1, 2000 do t[2000 + i] = '::a' .. i .. '::' end
            local s = table.concat(t) while true do load(s) end",
        ),
        attack(
            "many breaks",
            Ends,
            "local s = 'while a do ' .. ('if b then break end '):rep(3000) .. 'end'
             while true do load(s) end",
        ),
        attack(
            "many constants",
            Deadline,
            "local t = {} for i = 1, 9000 do t[i] = i .. ' ' end
             local s = 'return {' .. table.concat(t, ',') .. '}' while true do load(s) end",
        ),
        attack(
            "many constants that collide",
            Ends,
            "local t = {} for i = 1, 4000 do t[i] = string.format('%d', i * 16383) end
             local s = 'return {' .. table.concat(t, ',') .. '}' while true do load(s) end",
        ),
        attack(
            "many locals",
            Deadline,
            "local s = ('local a '):rep(190) .. ('do local b end '):rep(3000) while true do load(s) end",
        ),
        attack(
            "long strings",
            Deadline,
            "local s = 'return [==[' .. (']='):rep(30000) .. ']==]' while true do load(s) end",
        ),
        attack(
            "long comments",
            Deadline,
            "local s = '--[==[' .. (']='):rep(30000) .. ']==]' while true do load(s) end",
        ),
        attack("long names", Deadline, "local s = ('a'):rep(60000) .. ' = 1' while true do load(s) end"),
        // The script itself, which each new VM compiles.
        attack("a script with a long list of or", Stalls, {
            format!("local a local b = {}a while true do end", "a or ".repeat(20_000))
        }),
    ]);
}

/// Otherwise it would take some minutes.
#[test]
fn a_script_that_takes_too_long_to_compile_is_refused() {
    let _alone = alone();
    let engine = LuaEngine::builder().build().unwrap();
    let source = format!("local a local b = {}a", "a or ".repeat(200_000));
    let began = Instant::now();
    match engine.function("bomb", source, LuaConfig::default()) {
        Err(error) => assert!(error.to_string().contains("takes too long to compile"), "{error}"),
        Ok(_) => assert!(began.elapsed() < Duration::from_mins(1), "it took {:?}", began.elapsed()),
    }
}
