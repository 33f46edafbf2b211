//! JSON for scripts.

use frame_dispatch::lua::{LuaModule, ModuleBuilder, mlua};
use mlua::{LuaString, Value};

/// A [module](LuaModule) with which scripts read and write JSON; they find it under `json`.
///
/// | | |
/// |---|---|
/// | `encode(value)` | The text of a table, string, number, boolean, `null` or `nil`. |
/// | `decode(text)` | The value of a text. |
///
/// Values are as those of payloads: `null` is JSON's null, an array is a table with the keys 1 to n, or one that was marked
/// with `array`, as every array is that was decoded. A whole number that Lua's integers of 64 bits cannot hold is decoded as a number
/// with a fraction, as Lua reads one in a script, and loses digits. Text that is not JSON is raised as a failed call of the kind `invalid`.
///
/// ```
/// use frame_dispatch::lua::{LuaConfig, LuaEngine};
/// use frame_dispatch::{Functions, Task};
/// use frame_registry::{App, Options};
/// use frame_runtime::modules::lua::JsonModule;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let engine = LuaEngine::builder().module(JsonModule::new()).build()?;
/// let source = r#"return json.encode(json.decode('{ "items": [] }'))"#;
/// let function = engine.function("json.lua", source, LuaConfig::default())?;
/// let functions = Functions::new(App::builder().build());
/// functions.register("app:json".parse()?, Options::new(), function)?;
/// let result = functions.root().call(Task::new("app:json".parse()?)).await?;
/// assert_eq!(result.as_json().unwrap(), r#"{"items":[]}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct JsonModule {
    _private: (),
}

impl JsonModule {
    /// The module.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl LuaModule for JsonModule {
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
        module.function("decode", move |lua, _, text: LuaString| {
            values.decode(lua, &text.as_bytes(), "the text")
        })
    }
}
