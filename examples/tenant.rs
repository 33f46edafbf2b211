//! The program `frame`, with an option of one's own: `cargo run --example tenant -- options`.
//!
//! In a project of its own the option would be a crate, and the program the two lines at the end.

use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};

/// Whose work this is.
#[frame_option(name = "tenant", empty_is_unset)]
pub static TENANT: FrameOption<String>;

/// The tenant of a frame; forks inherit it, and scripts see it.
pub static TENANT_KEY: Key<String> = Key::new("tenant").inherit().public();

/// Puts the tenant on the frame. Who is trusted says whose work it is, and a script does not.
#[frame_resolver(order = 400, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
    if !options.is_trusted(&TENANT) {
        return Err("a script does not choose its tenant".to_owned());
    }
    Ok(options.pair(&TENANT, &TENANT_KEY))
}

fn main() -> std::process::ExitCode {
    frame_runtime::main()
}
