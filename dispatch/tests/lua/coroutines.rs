//! Coroutines that are suspended by what is not the script.

use serde_json::json;

use crate::support::{Script, id};
use frame_dispatch::{CallContext, Payload};
use frame_registry::Options;

#[tokio::test]
async fn what_a_coroutine_computes_does_not_depend_on_when_it_is_suspended() {
    // Long enough to be suspended many times at every depth.
    let source = "local function work(n) local s = 0 for i = 1, n do s = s + i % 7 end return s end
                  local function level(n)
                    if n == 0 then return work(20000) end
                    local sum = 0
                    for v in coroutine.wrap(function()
                      for _ = 1, 3 do coroutine.yield(work(3000) + level(n - 1)) end
                    end) do sum = sum + v end
                    return sum
                  end
                  return { level(4), level(4) }";
    let script = Script::new(source);
    let level = |n: u32| -> u64 {
        let work = |n: u64| (1..=n).map(|i| i % 7).sum::<u64>();
        (0..n).fold(work(20_000), |inner, _| 3 * (work(3000) + inner))
    };
    assert_eq!(script.json(json!(null)).await, json!([level(4), level(4)]));
}

#[tokio::test]
async fn waiting_and_yielding_mix_at_any_depth() {
    let source = "local function level(n)
                    if n == 0 then return call('app:next', 0) end
                    return coroutine.wrap(function()
                      local inner = coroutine.create(function(x) local y = coroutine.yield(call('app:next', x)) return level(n - 1) + y end)
                      local _, x = coroutine.resume(inner, n)
                      local _, result = coroutine.resume(inner, x)
                      return result
                    end)()
                  end
                  return level(...)";
    for depth in 1..40 {
        let script = Script::new(source);
        let next = async |_: CallContext, payload: Payload| {
            tokio::task::yield_now().await;
            Ok(Payload::from(json!(payload.as_json().unwrap().as_i64().unwrap() + 1)))
        };
        script.functions.register(id("app:next"), Options::new(), next).unwrap();
        assert_eq!(script.json(json!(depth)).await, (1..=depth).map(|n| n + 1).sum::<i64>() + 1);
    }
}

#[tokio::test]
async fn being_suspended_on_the_way_out_of_coroutines_loses_no_wake_up() {
    // The way out is long, and the host function is done as soon as it can be.
    let source = "local function nested(n)
                    if n == 0 then return call('app:next', 0) end
                    local spin = 0
                    for i = 1, 2000 do spin = spin + i end
                    return coroutine.wrap(nested)(n - 1)
                  end
                  local sum = 0
                  for i = 1, 60 do sum = sum + nested(40) end
                  return sum";
    let script = Script::new(source);
    let next = async |_: CallContext, _: Payload| {
        tokio::task::yield_now().await;
        Ok(Payload::from(json!(1)))
    };
    script.functions.register(id("app:next"), Options::new(), next).unwrap();
    assert_eq!(script.json(json!(null)).await, 60);
}
