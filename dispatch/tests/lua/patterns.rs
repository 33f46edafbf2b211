//! Patterns, against those of stock Lua.

use std::time::Duration;

use frame_dispatch::ErrorKind;
use frame_dispatch::lua::mlua::chunk::ChunkMode;
use frame_dispatch::lua::mlua::{Lua, LuaOptions, StdLib};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Script, failed, returned};

/// Runs all of it over one subject and pattern, and gives what came of it, errors included.
const ALL: &str = r##"
    local s, p, r, init = ...
    local function tidy(ok, ...)
      local out = { tostring(ok) }
      for i = 1, select("#", ...) do
        local text = tostring((select(i, ...)))
        -- Not where it was raised.
        if not ok then text = text:gsub("^.-:%d+: ", "") end
        out[#out + 1] = text
      end
      return table.concat(out, "|")
    end
    local results = {
      tidy(pcall(string.find, s, p, init)),
      tidy(pcall(string.find, s, p, init, true)),
      tidy(pcall(string.match, s, p, init)),
      tidy(pcall(string.gsub, s, p, r)),
      tidy(pcall(string.gsub, s, p, r, 1)),
      tidy(pcall(string.gsub, s, p, function(...) return "<" .. select("#", ...) .. tostring((...)) .. ">" end)),
      tidy(pcall(string.gsub, s, p, { a = "A", [1] = "one", b = false })),
      tidy(pcall(function()
        local all = {}
        for a, b in string.gmatch(s, p, init) do
          all[#all + 1] = tostring(a) .. "," .. tostring(b)
          if #all > 50 then break end
        end
        return table.concat(all, ";")
      end)),
    }
    return table.concat(results, "\n")
"##;

fn stock() -> Lua {
    let libraries = StdLib::STRING | StdLib::TABLE | StdLib::COROUTINE;
    Lua::new_with(libraries, LuaOptions::new()).unwrap()
}

fn pattern() -> impl Strategy<Value = String> {
    let item = prop_oneof![
        4 => "[abc]",
        2 => Just(".".to_owned()),
        2 => "%[acdlpsuwxzADSW.%]",
        2 => r"\[\^?[abc]{1,2}\]",
        1 => Just("[a-c]".to_owned()),
        1 => Just("[^%a]".to_owned()),
        1 => Just("[]]".to_owned()),
        1 => Just("%b()".to_owned()),
        1 => Just("%bab".to_owned()),
        1 => Just("%f[a]".to_owned()),
        1 => Just("%f[^a]".to_owned()),
        1 => "%[0-3]",
        1 => Just("()".to_owned()),
        1 => Just("(".to_owned()),
        1 => Just(")".to_owned()),
        1 => Just("(a*)".to_owned()),
        1 => Just("(.-)".to_owned()),
        1 => Just("%".to_owned()),
        1 => Just("[".to_owned()),
        1 => "[$^]",
    ];
    let suffixed =
        (item, prop_oneof![3 => Just(""), 1 => Just("*"), 1 => Just("+"), 1 => Just("-"), 1 => Just("?")])
            .prop_map(|(item, suffix)| item + suffix);
    (
        prop_oneof![3 => Just(""), 1 => Just("^")],
        proptest::collection::vec(suffixed, 0..5),
        prop_oneof![3 => Just(""), 1 => Just("$")],
    )
        .prop_map(|(start, items, end)| format!("{start}{}{end}", items.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patterns_do_as_those_of_stock_lua_do(
        subject in r"[abcA1 ()\]%.\n]{0,14}",
        pattern in pattern(),
        replacement in "[ab]{0,2}(%[0-2%x])?[ab]{0,1}",
        init in -4i64..8,
    ) {
        thread_local! {
            static STOCK: frame_dispatch::lua::mlua::Function =
                stock_function();
            static OURS: (Script, tokio::runtime::Runtime) = (
                Script::new(&format!("return (function(...) {ALL} end)(table.unpack((...)))")),
                tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            );
        }
        let expected: String =
            STOCK.with(|stock| stock.call((&*subject, &*pattern, &*replacement, init))).unwrap();
        let given = json!([subject, pattern, replacement, init]);
        let ours = OURS.with(|(script, runtime)| runtime.block_on(script.json(given)));
        prop_assert_eq!(ours.as_str().unwrap(), expected);
    }
}

fn stock_function() -> frame_dispatch::lua::mlua::Function {
    // Its functions do not keep it alive.
    let lua = Box::leak(Box::new(stock()));
    lua.load(ALL).set_mode(ChunkMode::Text).into_function().unwrap()
}

#[tokio::test]
async fn a_pattern_that_takes_forever_ends_at_the_deadline() {
    let script = Script::new("return ('a'):rep(1e5 // 1 | 0):find(('.-'):rep(20) .. 'b')");
    let ctx = script.functions.root().with_timeout(Duration::from_millis(50));
    let error = script.call_with(&ctx, serde_json::Value::Null).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{error}");
}

#[tokio::test]
async fn a_pattern_has_the_limits_of_plain_lua() {
    let error = failed("return ('x'):rep(300):find(('(x)'):rep(40))").await;
    assert!(error.message().contains("too many captures"), "{error}");
    let error = failed("return ('x'):rep(300):find(('x?'):rep(300) .. 'y')").await;
    assert!(error.message().contains("pattern too complex"), "{error}");
}

#[tokio::test]
async fn large_subjects_are_no_problem() {
    let source = "local s = ('word '):rep(200000)
                  local n = 0
                  for w in s:gmatch('%a+') do n = n + 1 end
                  return { n, select(2, s:gsub('%s+', '_')), s:find('x', 1, true) == nil, #s:upper():lower():reverse() }";
    assert_eq!(returned(source).await, json!([200_000, 200_000, true, 1_000_000]));
}
