//! A runtime of one's own: a queue of jobs, each of which has a frame. `cargo run --example embedding`.
//!
//! It knows no option. What a job may be given is whatever the program links: `network` and `isolation` of `frame-net`,
//! `fs_root` and `trace` of `frame-runtime`, and `tenant`, which is declared here.

use frame_registry::{
    App, BoxError, Frame, FrameBuilder, FrameOption, FrameResolvers, Key, Options, Pair, ResolveContext,
    frame_option, frame_resolver,
};
use serde_json::json;

/// Whose work this is.
#[frame_option(name = "tenant")]
pub static TENANT: FrameOption<String>;

/// The tenant of a frame; forks inherit it.
pub static TENANT_KEY: Key<String> = Key::new("tenant").inherit();

#[frame_resolver(order = 300, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, &'static str> {
    if options.get(&TENANT).is_some_and(String::is_empty) {
        return Err("a tenant has a name");
    }
    Ok(options.pair(&TENANT, &TENANT_KEY))
}

/// What the queue runs: it is given its frame, and nothing else of its surroundings.
type Job = fn(&Runtime, &Frame) -> Result<(), BoxError>;

struct Runtime {
    app: App,
}

impl Runtime {
    /// The one place where a job is started. If its frame is refused it does not run.
    fn spawn(&self, parent: Option<&Frame>, options: &Options, job: Job) -> Result<(), BoxError> {
        let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
        self.app.resolvers().resolve(&ResolveContext::new(&self.app, parent), options, frame.pairs_mut())?;
        job(self, &frame.seal())
    }
}

fn import(runtime: &Runtime, frame: &Frame) -> Result<(), BoxError> {
    println!("import: {frame:?}");
    // What it spawns inherits the tenant and the network; this one wants connections of its own, too.
    let options = Options::from_json(&json!({ "isolation": "export" }))?;
    runtime.spawn(Some(frame), &options, export)
}

fn export(runtime: &Runtime, frame: &Frame) -> Result<(), BoxError> {
    let dialer = frame_net::dialer(frame, &runtime.app)?;
    println!("export: {frame:?}, which connects through {}", dialer.route());
    Ok(())
}

fn main() -> Result<(), BoxError> {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked())?;
    let networks = json!({ "networks": { "app:tor": { "kind": "socks5", "proxy": "127.0.0.1:9050" } } });
    frame_net::boot(&mut app, serde_json::from_value(networks)?)?;
    let runtime = Runtime { app: app.build() };

    let options = Options::from_json(&json!({ "tenant": "acme", "network": "app:tor" }))?;
    runtime.spawn(None, &options, import)?;

    // Neither of these runs.
    let unknown = Options::from_json(&json!({ "network": "app:tro" }))?;
    if let Err(error) = runtime.spawn(None, &unknown, import) {
        println!("refused: {error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
    }
    if let Err(error) = Options::from_json(&json!({ "tennant": "acme" })) {
        println!("refused: {error}");
    }
    Ok(())
}
