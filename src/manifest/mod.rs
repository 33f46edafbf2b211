//! The manifest: what an app is made of, as text.
//!
//! ```toml
//! [app]
//! name = "hello"
//! options = { timeout = "1m" }    # for all calls, unless they or their functions say otherwise
//!
//! [clearnet]                      # what may be reached without an overlay network: `frame_net::DirectConfig`
//! allow = ["10.1.2.0/24:5432"]
//!
//! [networks."app:tor"]            # overlay networks: `frame_net::NetworkConfig`
//! kind = "socks5"
//! proxy = "127.0.0.1:9050"
//!
//! [limits]                        # what functions and processes share: `frame_net::LimitsConfig`
//! connections = 10_000
//! connections_per_unit = 500
//!
//! [http]                          # for the modules `http` and `websocket`: `frame_net::http::HttpConfig`
//! time_limit = "10s"
//!
//! [secrets."app:stripe"]          # what requests carry and scripts never see: `frame_net::secrets::SecretConfig`
//! env = "STRIPE_KEY"              # or `file = "stripe.key"`
//! hosts = ["api.stripe.com"]      # over TLS only, at port 443 unless given
//! header = "authorization"
//! template = "Bearer {}"
//!
//! [fs]                            # what `fs_root` can be below; without it there are no files for anyone
//! base = "data"
//!
//! [audit]                         # what units connect to, as one JSON object a line
//! file = "audit.log"
//! required = true                 # what cannot be recorded is refused
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
//! timers = 16                     # of each process
//! groups = 8                      # that each process is in
//! group_members = 100             # of each group
//! engines = ["lua", "native", "wasm"]  # supervisors are native
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
//!
//! [supervisors."app:pool"]        # dynamic: its children are started and stopped while the app runs
//! host = "app:workers"
//! max_children = 100
//!
//! [supervisors."app:pool".template]   # what each of them is, but for what it is started with: as a child, without a name
//! process = "app:ticker"
//! restart = "transient"
//! ```
//!
//! # What can be left out
//!
//! Everything can be, but for the `engine` and the `source` of a function, the `kind` of a network, the `hosts` of a secret
//! and its `env` or `file`, the `host` of a supervisor, and the `id` and the `process` of a child. Paths begin at the directory of the manifest.
//!
//! | limit | for | unless given |
//! |---|---|---|
//! | `memory` | scripts, components | 32 MiB, 64 MiB |
//! | `time` | both | 30 s; for a process, `"unlimited"` |
//! | `payload` | both | 16 MiB |
//! | `calls`, at once | both | 64; for a process, as many as its hosts have room for |
//! | `wait`, for a turn | both | 30 s |
//! | `idle`, `warm`, `fresh_vm` | scripts | 8, 0, false |
//! | `table_elements`, `json_memory`, `host_memory` | components | 20 000, 32 MiB, 64 MiB |
//!
//! A duration is a number and its unit, or several: `"500ms"`, `"2s"`, `"1m30s"`. A size is a number of bytes, or one with
//! its unit, where `KiB`, `MiB` and `GiB` are powers of 1024, and `kB`, `MB` and `GB` of 1000.
//!
//! # What is wrong with one
//!
//! [`examine`] reads all that can be read, and reports the first mistake of each setting, in all sections at once: each
//! [`Problem`] with the bytes that it is about, and what would be right. [`Problems::render`] shows them to people,
//! [`Problems::to_json`] to programs. Of the settings of a network and the headers for a collector they show the names, and
//! not the values: these may be secret.
//!
//! # Environment variables
//!
//! `${NAME}` in a string of `[clearnet]`, `[networks]`, `[http]`, `[secrets]` and `[telemetry]` is replaced by the value of an environment
//! variable, as the program was started with it. A variable that is not set, or empty, is an error. `$${`
//! is the text `${`, and every other `$` is itself. No report shows a value. The `kind` of a network, the `env` of a secret, and strings
//! everywhere else, have no variables: there `${NAME}` is refused, but in the `payload` of a child, where it is text.

mod function;
mod ids;
mod model;
mod places;
mod problem;
mod reader;
mod reading;
mod report;
mod sections;
mod summary;
mod supervisor;
mod syntax;
mod variables;

#[cfg(test)]
mod tests;

pub(crate) use self::function::Role;
#[cfg(feature = "wasm")]
pub use self::model::WasmSection;
pub use self::model::{
    AppSection, AuditConfig, Child, Dynamic, Engine, Function, Given, Limits, Manifest, Otlp, Source,
    SupervisorSpec,
};
pub(crate) use self::places::PointAt;
pub(crate) use self::problem::DRAWN;
pub use self::problem::{Problem, Problems, Severity, SourceFile};
pub(crate) use self::reader::list;
pub use self::reading::{Reading, examine, read};
pub(crate) use self::reading::{STDIN, examine_once};
pub use self::report::Look;
pub(crate) use self::summary::Summary;
