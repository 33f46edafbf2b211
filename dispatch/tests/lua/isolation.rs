//! A call sees nothing of another in its VM.

use frame_dispatch::lua::LuaConfig;
use frame_dispatch::{PoolConfig, Task};
use frame_registry::Options;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::host::TENANT;
use crate::support::{Script, id, returned};

/// Looks for traces of another call, then leaves as many as it can.
const NOSY: &str = r#"
    local owner = ...
    local found = {}
    local function see(what, value) if value ~= nil then found[#found + 1] = what end end

    if frame.get("tenant") ~= owner then see("frame", true) end
    see("global", leftover)
    see("_G", rawget(_G, "leftover"))
    for name in pairs(_G) do
      if type(name) ~= "string" or name:find("^left") then see("pairs " .. tostring(name), true) end
    end
    for _, name in ipairs { "coroutine", "frame", "log", "math", "string", "table", "utf8", "mine" } do
      see(name, rawget(_ENV[name], "leftover"))
    end
    see("method", ("x").leftover)
    see("find", string.find("abc", "b") ~= 2 or nil)
    see("method find", ("abc"):find("b") ~= 2 or nil)
    see("tostring", tostring(1) ~= "1" or nil)
    if getmetatable("") ~= false or getmetatable(_G) ~= false then see("metatable", true) end
    see("upvalue", counter and counter() ~= 1 or nil)
    local _, index = pcall(function() return #mine.list end)
    see("module", index ~= nil and type(index) == "number" or nil)

    leftover = owner
    _G.left = owner
    counter = (function() local n = 0 return function() n = n + 1 return n end end)()
    counter()
    for _, name in ipairs { "coroutine", "frame", "log", "math", "string", "table", "utf8", "mine" } do
      rawset(_ENV[name], "leftover", owner)
    end
    string.find = function() return 99 end
    tostring = function() return "spoiled" end
    pairs, ipairs, pcall, type = nil, nil, nil, nil
    pending = coroutine.wrap(function()
      local guard <close> = setmetatable({}, { __close = function() leftover = "closed" end })
      while true do coroutine.yield(owner) end
    end)
    pending()
    array({}).leftover = owner
    weak = setmetatable({}, { __mode = "v" })
    load("leftover = 'loaded'")()
    if owner == "failing" then error("on purpose") end
    return found
"#;

fn nosy() -> Script {
    struct Mine;
    impl frame_dispatch::lua::LuaModule for Mine {
        fn name(&self) -> &'static str {
            "mine"
        }
        fn install(
            &self,
            module: &mut frame_dispatch::lua::ModuleBuilder<'_>,
        ) -> frame_dispatch::lua::mlua::Result<()> {
            module.constant("answer", 42)
        }
    }
    let engine = frame_dispatch::lua::LuaEngine::builder().module(Mine).build().unwrap();
    let pool = PoolConfig::default().with_size(2).with_idle(2);
    Script::with_engine(&engine, NOSY, LuaConfig::default().with_pool(pool))
}

async fn calls(script: &Script, owners: &[&'static str]) -> Vec<Option<Json>> {
    let mut set = tokio::task::JoinSet::new();
    for (index, owner) in owners.iter().copied().enumerate() {
        let functions = script.functions.clone();
        set.spawn(async move {
            let options = Options::new().with(&TENANT, owner.to_owned());
            let task = Task::new(id("app:script")).with_payload(json!(owner)).with_options(options);
            let result = functions.root().call(task).await;
            (index, result.ok().map(|payload| payload.as_json().unwrap().clone()))
        });
    }
    let mut results = vec![None; owners.len()];
    while let Some(done) = set.join_next().await {
        let (index, result) = done.unwrap();
        results[index] = result;
    }
    results
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn calls_of_two_owners_see_nothing_of_each_other(
        owners in proptest::collection::vec(prop_oneof![Just("one"), Just("two"), Just("failing")], 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let script = nosy();
        let results = runtime.block_on(calls(&script, &owners));
        for (owner, result) in owners.iter().zip(results) {
            prop_assert_eq!(result, if *owner == "failing" { None } else { Some(json!({})) });
        }
        let statistics = script.function.statistics();
        prop_assert!(statistics.built <= 2, "the VMs were used again: {statistics:?}");
    }
}

#[tokio::test]
async fn what_scripts_share_is_out_of_their_reach() {
    assert_eq!(returned("return getmetatable('')").await, false);
    assert_eq!(returned("return getmetatable(_ENV)").await, false);
    assert_eq!(returned("return pcall(setmetatable, _ENV, {})").await, false);
    assert_eq!(returned("return getmetatable(array{})").await, "array");
    assert_eq!(returned("return pcall(setmetatable, array{}, {})").await, false);
    assert_eq!(returned("string.leftover = 1 return ('x').leftover == nil").await, true);
    assert_eq!(returned("return string.rep == ('x').rep").await, true);
}

#[tokio::test]
async fn what_a_script_shall_not_have_it_has_not() {
    let script = Script::new("return _ENV[...] == nil");
    for name in ["collectgarbage", "debug", "dofile", "io", "loadfile", "package", "require"] {
        assert_eq!(script.json(json!(name)).await, true, "{name}");
    }
    assert_eq!(returned("return string.dump == nil").await, true);
    let names = "local names = {} for name in pairs(os) do names[#names + 1] = name end table.sort(names) return names";
    assert_eq!(returned(names).await, json!(["clock", "date", "time"]));
}

#[tokio::test]
async fn random_numbers_are_not_those_of_the_call_before() {
    let script = Script::new(
        "if ... then math.randomseed(1) end return { math.random(1 << 62), math.random(1 << 62) }",
    );
    let seeded = script.json(json!(true)).await;
    assert_eq!(script.json(json!(true)).await, seeded);
    let (first, second) = (script.json(json!(false)).await, script.json(json!(false)).await);
    assert_ne!(first, second);
    assert_eq!(script.function.statistics().built, 1);
}

#[tokio::test]
async fn random_numbers_of_many_calls_are_all_different() {
    let script = Script::new("return tostring(math.random(0))");
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5_000 {
        let number = script.json(json!(null)).await;
        assert!(seen.insert(number.to_string()), "{number} came twice");
    }
    assert_eq!(script.function.statistics().built, 1, "one VM after the other proves less");
}

#[tokio::test]
async fn finalizers_are_refused_and_other_metamethods_are_not() {
    assert_eq!(returned("return pcall(setmetatable, {}, { __gc = print })").await, false);
    assert_eq!(returned("return pcall(setmetatable, {}, { __mode = 'v', __close = print })").await, true);
    assert_eq!(returned("return pcall(setmetatable, {}, { __mode = 'kv' })").await, false);
}
