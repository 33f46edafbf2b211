//! What a host adds.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use frame_dispatch::lua::{LuaConfig, LuaEngine, LuaError, LuaModule, ModuleBuilder, mlua};
use frame_dispatch::{CallContext, CallError, ErrorKind, FUNCTION, PID};
use frame_registry::Options;
use serde_json::json;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::{Script, id};

struct Named(&'static str);

impl LuaModule for Named {
    fn name(&self) -> &'static str {
        self.0
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        module.constant("name", self.0)?;
        module.function("function_id", |_, ctx: CallContext, ()| {
            Ok(ctx.frame().get(&FUNCTION).map(ToString::to_string))
        })?;
        module
            .function("pid", |_, ctx: CallContext, ()| Ok(ctx.frame().get(&PID).map(|pid| pid.number())))?;
        module.async_function("later", async |ctx: CallContext, value: i64| {
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            Ok((value, ctx.frame().get(&FUNCTION).map(ToString::to_string)))
        })?;
        module.function("panics", |_, _, ()| -> mlua::Result<()> { panic!("out of order") })?;
        module.async_function("panics_later", async |_: CallContext, ()| -> mlua::Result<()> {
            tokio::task::yield_now().await;
            panic!("out of order")
        })?;
        module.function("busy", |_, _, ()| -> mlua::Result<()> {
            Err(mlua::Error::external(CallError::new(ErrorKind::Unavailable, "busy")))
        })?;
        module.async_function("fails", async |_: CallContext, ()| -> mlua::Result<()> {
            Err(mlua::Error::runtime("it does not work"))
        })
    }
}

fn script(source: &str) -> Script {
    let engine = LuaEngine::builder().module(Named("mine")).build().unwrap();
    Script::with_engine(&engine, source, LuaConfig::default())
}

#[tokio::test]
async fn a_module_is_handed_the_call_that_it_is_called_in() {
    let engine = LuaEngine::builder().module(Named("mine")).build().unwrap();
    let script = Script::with_engine(
        &engine,
        "return { mine.function_id(), mine.pid(), mine.name }",
        LuaConfig::default(),
    );
    let first = script.json(json!(null)).await;
    let second = script.json(json!(null)).await;
    assert_eq!((&first[0], &first[2]), (&json!("app:script"), &json!("mine")));
    assert_ne!(first[1], second[1], "not that of the call before");
    assert_eq!(script.function.statistics().built, 1);
    script.functions.register(id("app:other"), Options::new(), script.function.clone()).unwrap();
    let other = script.functions.root().call(frame_dispatch::Task::new(id("app:other"))).await.unwrap();
    assert_eq!(other.as_json().unwrap()[0], "app:other");
}

#[tokio::test]
async fn an_async_function_is_waited_for_at_any_depth() {
    let script = script(
        "local function deep(n)
           if n == 0 then return (mine.later(7)) end
           return coroutine.wrap(function() coroutine.yield(pcall(deep, n - 1)) end)()
         end
         local all = {}
         for n = 0, 20 do all[#all + 1] = select(2, pcall(function() return select(-1, deep(n)) end)) end
         return all",
    );
    assert_eq!(script.json(json!(null)).await.as_array().unwrap().len(), 21);
    assert_eq!(script.json(json!(null)).await[20], json!(7).clone(), "the value came through");
}

#[tokio::test]
async fn an_async_function_cannot_be_waited_for_where_lua_cannot_be_suspended() {
    let script = script(
        "local t = setmetatable({}, { __tostring = function() return mine.later(1) end })
         return { pcall(tostring, t) }",
    );
    let result = script.json(json!(null)).await;
    assert_eq!(result[0], false);
    assert!(result[1].as_str().unwrap().contains("attempt to yield across a C-call boundary"), "{result}");
    let script = self::script(
        "local inner = coroutine.wrap(function() return mine.later(1) end)
         local t = setmetatable({}, { __tostring = function() return tostring(inner()) end })
         return { pcall(tostring, t) }",
    );
    assert!(script.json(json!(null)).await[1].as_str().unwrap().contains("across a C-call boundary"));
}

#[tokio::test]
async fn a_panic_fails_the_call_and_costs_the_vm() {
    for source in [
        "mine.panics()",
        "pcall(mine.panics)",
        "mine.panics_later()",
        "pcall(mine.panics_later)",
        "coroutine.wrap(mine.panics)()",
        "pcall(pcall, mine.panics)",
        "xpcall(mine.panics, function() end)",
        "local x <close> = setmetatable({}, { __close = function() error('x') end }) mine.panics()",
    ] {
        let script = script(&format!("if ... then return 'fine' end {source}"));
        let error = script.call(json!(false)).await.expect_err(source);
        assert_eq!(error.kind(), ErrorKind::Internal, "{source}: {error}");
        assert!(error.message().contains("out of order"), "{source}: {error}");
        assert_eq!(script.json(json!(true)).await, "fine");
        assert_eq!(script.function.statistics().discarded, 1, "{source}");
    }
}

#[tokio::test]
async fn an_error_of_a_module_keeps_its_kind_or_gets_a_place() {
    let error = script("mine.busy()").call(json!(null)).await.unwrap_err();
    assert_eq!((error.kind(), error.message(), error.is_retryable()), (ErrorKind::Unavailable, "busy", true));
    let caught = script("local _, e = pcall(mine.busy) return { e.kind, e.message }");
    assert_eq!(caught.json(json!(null)).await, json!(["unavailable", "busy"]));
    let error = script("\nmine.fails()").call(json!(null)).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, "script:2: it does not work"));
}

#[test]
fn a_name_that_is_none_or_taken_is_refused() {
    for name in ["", "1st", "with space", "end", "ümlaut"] {
        let error = LuaEngine::builder().module(Named(name)).build().unwrap_err();
        assert!(matches!(error, LuaError::ModuleName { .. }), "{name}: {error}");
    }
    for name in ["frame", "string", "print", "call", "_G", "log"] {
        let error = LuaEngine::builder().module(Named(name)).build().unwrap_err();
        assert!(matches!(error, LuaError::ModuleNameTaken { .. }), "{name}: {error}");
    }
    let error = LuaEngine::builder().module(Named("twice")).module(Named("twice")).build().unwrap_err();
    assert!(matches!(error, LuaError::ModuleNameTaken { .. }), "{error}");
}

#[test]
fn a_module_that_cannot_be_installed_is_an_error_of_the_engine() {
    struct Broken;
    impl LuaModule for Broken {
        fn name(&self) -> &'static str {
            "broken"
        }
        fn install(&self, _: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
            Err(mlua::Error::runtime("no"))
        }
    }
    let error = LuaEngine::builder().module(Broken).build().unwrap_err();
    assert!(matches!(error, LuaError::Module { .. }), "{error}");
}

#[tokio::test]
async fn a_method_that_waits_is_polled_only_when_it_is_woken() {
    struct Bell(Arc<Notify>);
    struct Bells(Arc<Notify>);
    impl LuaModule for Bells {
        fn name(&self) -> &'static str {
            "bells"
        }
        fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
            let methods = module.functions(|methods| {
                methods.prepared_function("wait", |_, _, bell: mlua::AnyUserData| {
                    let bell = Arc::clone(&bell.borrow::<Bell>()?.0);
                    Ok(async move {
                        bell.notified().await;
                        Ok(7)
                    })
                })
            })?;
            module.lua().register_userdata_type(|registry: &mut mlua::UserDataRegistry<Bell>| {
                mlua::UserDataFields::add_meta_field(registry, "__index", methods);
            })?;
            let bell = Arc::clone(&self.0);
            module.function("open", move |lua, _, ()| lua.create_any_userdata(Bell(Arc::clone(&bell))))
        }
    }
    for source in
        ["return (bells.open():wait())", "return coroutine.wrap(function() return bells.open():wait() end)()"]
    {
        let bell = Arc::new(Notify::new());
        let engine = LuaEngine::builder().module(Bells(Arc::clone(&bell))).build().unwrap();
        let script = Script::with_engine(&engine, source, LuaConfig::default());
        let call = tokio::spawn(async move {
            let mut polls = 0;
            let mut call = pin!(script.json(json!(null)));
            let result = poll_fn(|waker| {
                polls += 1;
                call.as_mut().poll(waker)
            });
            (result.await, polls)
        });
        // Each is a turn for the call, if it asks for one.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        bell.notify_one();
        let (result, polls) = call.await.unwrap();
        assert_eq!(result, 7);
        assert!(polls < 100, "{source}: polled {polls} times");
    }
}

#[tokio::test]
async fn the_future_of_a_function_is_dropped_with_its_call() {
    struct Waits(Arc<AtomicUsize>, Arc<Notify>);
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    impl LuaModule for Waits {
        fn name(&self) -> &'static str {
            "waits"
        }
        fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
            let (count, started) = (Arc::clone(&self.0), Arc::clone(&self.1));
            module.async_function("forever", move |_: CallContext, ()| {
                started.notify_one();
                let dropped = Dropped(Arc::clone(&count));
                async move {
                    let _dropped = dropped;
                    std::future::pending::<mlua::Result<()>>().await
                }
            })
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let started = Arc::new(Notify::new());
    let engine =
        LuaEngine::builder().module(Waits(Arc::clone(&dropped), Arc::clone(&started))).build().unwrap();
    let source = "coroutine.wrap(function() pcall(waits.forever) end)()";
    let script = Script::with_engine(&engine, source, LuaConfig::default());
    let token = CancellationToken::new();
    let ctx = script.functions.root().with_cancellation(token.clone());
    let (outcome, ()) = tokio::join!(script.call_with(&ctx, json!(null)), async {
        started.notified().await;
        token.cancel();
    });
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

/// A list that is not a table.
#[derive(Default)]
struct List(Mutex<Vec<mlua::Value>>);

impl mlua::UserData for List {
    fn add_methods<M: mlua::UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(mlua::MetaMethod::Len, |_, list, ()| Ok(list.0.lock().unwrap().len()));
        methods.add_meta_method(mlua::MetaMethod::Index, |_, list, index: usize| {
            Ok(list.0.lock().unwrap().get(index.wrapping_sub(1)).cloned())
        });
        methods.add_meta_method(mlua::MetaMethod::NewIndex, |_, list, (index, value)| {
            let (mut list, index): (_, usize) = (list.0.lock().unwrap(), index);
            let length = list.len().max(index);
            list.resize(length, mlua::Value::Nil);
            list[index - 1] = value;
            while list.last().is_some_and(mlua::Value::is_nil) {
                list.pop();
            }
            Ok(())
        });
    }
}

struct Lists;

impl LuaModule for Lists {
    fn name(&self) -> &'static str {
        "lists"
    }

    fn install(&self, module: &mut ModuleBuilder<'_>) -> mlua::Result<()> {
        module.function("new", |lua, _: CallContext, ()| lua.create_userdata(List::default()))
    }
}

#[tokio::test]
async fn functions_on_tables_take_what_has_the_metamethods_and_give_none_of_them_away() {
    let engine = LuaEngine::builder().module(Lists).build().unwrap();
    let source = "local list = lists.new()
        table.insert(list, 'b')
        table.insert(list, 1, 'a')
        table.insert(list, 'c')
        local removed = { table.remove(list), table.remove(list, 1) }
        table.insert(list, 'd')
        local errors = {}
        for _, wrong in ipairs({ 'text', 1, true }) do
            for _, name in ipairs({ 'insert', 'remove', 'concat' }) do
                errors[#errors + 1] = select(2, pcall(table[name], wrong, 1))
            end
        end
        return { removed = removed, concat = table.concat(list, ','), errors = errors }";
    let result = Script::with_engine(&engine, source, LuaConfig::default()).json(json!(null)).await;
    assert_eq!((&result["removed"], &result["concat"]), (&json!(["c", "a"]), &json!("b,d")));
    for error in result["errors"].as_array().unwrap() {
        let error = error.as_str().unwrap();
        assert!(error.contains("bad argument #1") && error.contains("table expected, got"), "{error}");
    }
}
