//! The manifest: what an app is made of, as text.
//!
//! ```toml
//! [app]
//! name = "hello"
//! options = { trace = true }      # for all that runs, unless it or a call says otherwise
//!
//! [clearnet]                      # what may be reached without an overlay network: `frame_net::DirectConfig`
//! allow = ["10.1.2.0/24:5432"]
//!
//! [networks."app:tor"]            # overlay networks: `frame_net::NetworkConfig`
//! kind = "socks5"
//! proxy = "127.0.0.1:9050"
//!
//! [http]                          # for the modules `http`: `frame_net::http::HttpConfig`
//! time_limit_ms = 10_000
//!
//! [fs]                            # what `fs_root` can be below; without it there are no files for anyone
//! base = "data"
//!
//! [telemetry]
//! otlp = "http://127.0.0.1:4318"
//!
//! [functions."app:greet"]
//! engine = "lua"                  # or "wasm"
//! source = "greet.lua"            # beside the manifest
//! options = { timeout = "2s", retry = 3 }
//! limits = { memory = "32MiB", time = "30s", payload = "1MiB", calls = 8, wait = "5s" }
//!
//! [hosts."app:workers"]
//! processes = 1000
//! mailbox = 64
//! engines = ["lua", "wasm"]
//!
//! [processes."app:ticker"]        # as functions
//! engine = "lua"
//! source = "ticker.lua"
//!
//! [supervisors."app:main"]
//! host = "app:workers"
//! strategy = "one_for_one"        # or "one_for_all", "rest_for_one"
//! restarts = 3
//! within = "5s"
//! backoff = { first = "100ms", max = "10s", factor = 2.0, jitter = 0.1, reset_after = "60s" }
//!
//! [[supervisors."app:main".children]]
//! id = "ticker"
//! process = "app:ticker"          # or that of a supervisor
//! host = "app:workers"            # where it is not the supervisor's
//! name = "ticker"
//! payload = { every = 1 }
//! options = { network = "app:tor" }
//! restart = "permanent"           # or "transient", "temporary"
//! shutdown = "5s"                 # or "at_once", "unlimited"
//! ```

mod model;
mod problem;

pub use self::model::{
    AppSection, Child, Engine, Function, Given, Limits, Manifest, Otlp, Source, SupervisorSpec,
};
pub use self::problem::{Problem, Problems, SourceFile};
