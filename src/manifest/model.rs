//! What a manifest says, once it was read.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use frame_dispatch::lua::LuaConfig;
use frame_dispatch::process::supervisor::{Backoff, Restart, Shutdown, Strategy};
use frame_dispatch::process::{EntryId, HostConfig, HostId};
#[cfg(feature = "wasm")]
use frame_dispatch::wasm::{ComponentLimits, WasmConfig};
use frame_dispatch::{FunctionId, FunctionsConfig};
use frame_net::http::HttpConfig;
use frame_net::secrets::SecretConfig;
use frame_net::{DirectConfig, LimitsConfig, NetworkConfig, NetworkId, SecretId};
use frame_registry::Options;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use super::places::Places;
use super::problem::SourceFile;
pub use crate::audit::AuditConfig;

/// An app, as its manifest says. Whatever one can see by reading is right: what is left is to compile what has a
/// source, and to make the networks.
#[derive(Debug)]
pub struct Manifest {
    /// The manifest's own text, as it can be shown.
    pub file: Arc<SourceFile>,
    /// The directory that it is in, which other paths begin at.
    pub directory: PathBuf,
    /// `[app]`.
    pub app: AppSection,
    /// `[clearnet]`.
    pub clearnet: DirectConfig,
    /// `[networks]`.
    pub networks: BTreeMap<NetworkId, Given<NetworkConfig>>,
    /// `[secrets]`.
    pub secrets: BTreeMap<SecretId, Given<SecretConfig>>,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// Where the settings of networks are.
    pub(crate) places: BTreeMap<NetworkId, Places>,
    /// `[http]`.
    pub http: HttpConfig,
    /// What `[http]` is, without how it is written.
    pub(crate) http_identity: Json,
    /// Where everything is.
    pub(crate) layout: Places,
    /// Where the settings of `[http]` are.
    pub(crate) http_places: Places,
    /// `[fs]`: the directory that every `fs_root` is below.
    pub base: Option<Given<PathBuf>>,
    /// `[audit]`.
    pub audit: Option<Given<AuditConfig>>,
    /// `[telemetry]`.
    pub otlp: Option<Otlp>,
    /// The endpoint there as it is written, to be shown: values of variables may be secret.
    pub(crate) collector: Option<String>,
    /// `[functions]`.
    pub functions: BTreeMap<FunctionId, Given<Function>>,
    /// `[hosts]`.
    pub hosts: BTreeMap<HostId, Given<HostConfig>>,
    /// `[processes]`.
    pub processes: BTreeMap<EntryId, Given<Function>>,
    /// `[supervisors]`. Those that are no child of another are started.
    pub supervisors: BTreeMap<EntryId, Given<SupervisorSpec>>,
    /// `[wasm]`.
    #[cfg(feature = "wasm")]
    pub wasm: WasmSection,
}

/// `[wasm]`: what the components of an app share, functions and processes each.
#[cfg(feature = "wasm")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasmSection {
    /// How many of them run at once.
    pub instances: u32,
    /// How many linear memories each of them may have.
    pub memories: u32,
    /// Bytes of address space for each linear memory.
    pub memory_reservation: usize,
    /// What a component may take to be compiled.
    pub component: ComponentLimits,
}

#[cfg(feature = "wasm")]
impl Default for WasmSection {
    fn default() -> Self {
        Self {
            instances: 256,
            memories: 4,
            memory_reservation: 4 << 30,
            component: ComponentLimits::default(),
        }
    }
}

/// A part of the manifest, and where it is.
#[derive(Debug, Clone)]
pub struct Given<T> {
    /// The part.
    pub value: T,
    /// Where in the text it is.
    pub span: Range<usize>,
    /// What it is, without how it is written: equal where nothing has changed. For a source it has the hash of the text.
    pub identity: Json,
}

/// `[app]`.
#[derive(Debug, Default)]
pub struct AppSection {
    /// The name, for logs and traces; otherwise that of the directory.
    pub name: String,
    /// The limits of all calls.
    pub functions: FunctionsConfig,
    /// The options of all that has not its own.
    pub options: Options,
    /// The same, as they are written.
    pub given: Map<String, Json>,
}

/// `[telemetry]`.
///
/// The values of headers are not shown in `Debug`: they may be tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Where traces are sent: the base address of a collector, as in `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: String,
    /// Sent along, for collectors that want to know who one is.
    pub headers: BTreeMap<String, String>,
}

/// A function, or what processes are started from.
#[derive(Debug, Clone)]
pub struct Function {
    /// What runs it, and its limits.
    pub limits: Limits,
    /// Its source.
    pub source: Source,
    /// The options preset for it.
    pub options: Options,
    /// The same, as they are written.
    pub given: Map<String, Json>,
}

impl Limits {
    /// How much memory an instance has, in bytes.
    pub const fn memory(&self) -> usize {
        match self {
            Self::Lua(limits) => limits.memory,
            #[cfg(feature = "wasm")]
            Self::Wasm(limits) => limits.memory,
        }
    }

    /// What runs it.
    pub const fn engine(&self) -> Engine {
        match self {
            Self::Lua(_) => Engine::Lua,
            #[cfg(feature = "wasm")]
            Self::Wasm(_) => Engine::Wasm,
        }
    }
}

impl Engine {
    /// Its name in a manifest: `lua` or `wasm`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lua => "lua",
            Self::Wasm => "wasm",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Otlp").field("endpoint", &self.endpoint).field("headers", &headers).finish()
    }
}

/// What a function is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A script in Lua 5.4.
    Lua,
    /// A WebAssembly component.
    Wasm,
}

/// What runs a function, with its limits there.
#[derive(Debug, Clone)]
pub enum Limits {
    /// A script.
    Lua(LuaConfig),
    /// A component.
    #[cfg(feature = "wasm")]
    Wasm(WasmConfig),
}

/// The source of a function: a file, which was read.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its path, as it is written in the manifest.
    pub path: String,
    /// Where in the manifest that is.
    pub span: Range<usize>,
    /// What is in it.
    pub bytes: Arc<[u8]>,
    /// The same as text, of a script.
    pub(crate) text: Option<Arc<str>>,
    /// What says that two are the same.
    pub(crate) hash: Arc<str>,
    /// Whether a report may show its lines: it is beneath the directory of the manifest, without a symbolic link that leads out.
    pub(crate) is_quotable: bool,
}

/// A supervisor.
#[derive(Debug, Clone)]
pub struct SupervisorSpec {
    /// Where it lives, and its children that say nothing else.
    pub host: HostId,
    /// Who is started again with a child.
    pub strategy: Strategy,
    /// How many restarts there may be within a time.
    pub intensity: (u32, Duration),
    /// How long a child that fails in a row waits.
    pub backoff: Backoff,
    /// In the order in which they are started.
    pub children: Vec<Given<Child>>,
    /// What its children are, if it is dynamic. It has no others then.
    pub dynamic: Option<Dynamic>,
}

impl SupervisorSpec {
    /// Its children, or what a dynamic one starts.
    pub(crate) fn all_children(&self) -> impl Iterator<Item = &Given<Child>> {
        self.children.iter().chain(self.dynamic.as_ref().map(|dynamic| &dynamic.template))
    }
}

/// What a dynamic supervisor starts.
#[derive(Debug, Clone)]
pub struct Dynamic {
    /// What each child is. It has no name.
    pub template: Given<Child>,
    /// How many there may be, if that is bounded.
    pub max_children: Option<usize>,
}

/// A child of a supervisor.
#[derive(Debug, Clone)]
pub struct Child {
    /// What it is called there.
    pub id: String,
    /// What it is: a process of the manifest, or a supervisor.
    pub process: EntryId,
    /// Where it lives.
    pub host: HostId,
    /// Its name among all processes.
    pub name: Option<String>,
    /// What it is started with.
    pub payload: Json,
    /// Its options.
    pub options: Options,
    /// After which ends it is started again.
    pub restart: Restart,
    /// How it is shut down.
    pub shutdown: Shutdown,
}

/// Returns the SHA-256 of `bytes` in hexadecimal. Identities are shown, so they hold the hash of what may be secret.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}
