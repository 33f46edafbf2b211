//! An option of somebody else's: one crate, linked into the program, and no source of this workspace is changed for it.

use std::ffi::OsStr;

use frame_tests::{BuildOptions, Built, Project, workspace};

/// All there is to an option: its declaration, its key, and the function that decides the key.
const TENANT: &str = r#"
#![forbid(unsafe_code)]
use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};

/// Whose work this is.
#[frame_option(name = "tenant", empty_is_unset)]
pub static TENANT: FrameOption<String>;

/// The tenant of a frame; forks inherit it, and scripts see it.
pub static TENANT_KEY: Key<String> = Key::new("tenant").inherit().public();

#[frame_resolver(order = 300, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
    match options.get(&TENANT) {
        Some(_) if !options.is_trusted(&TENANT) => Err("a script does not choose its tenant".to_owned()),
        _ => Ok(options.pair(&TENANT, &TENANT_KEY)),
    }
}
"#;

/// An option that narrows where a unit may connect, beside the option `egress`.
const LOCAL_ONLY: &str = r#"
#![forbid(unsafe_code)]
use frame_net::{Egress, EgressList, EgressListError};
use frame_registry::{FrameOption, Key, Options, Pair, ResolveContext, frame_option, frame_resolver};

/// Whether the call reaches this machine only. What the caller has of it stays.
#[frame_option(name = "local_only")]
pub static LOCAL_ONLY: FrameOption<bool>;

/// What a frame reaches then; forks inherit it.
pub static LOCAL_ONLY_KEY: Key<Egress> = Key::new("local_only.egress").inherit();

#[frame_resolver(order = 400, covers(LOCAL_ONLY))]
fn local_only(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, EgressListError> {
    if options.get(&LOCAL_ONLY) != Some(&true) {
        return Ok(None);
    }
    Ok(Some(LOCAL_ONLY_KEY.pair(Egress::new(EgressList::parse(["127.0.0.0/8", "::1"])?))))
}
"#;

const PROGRAM: &str = r"
use local_only as _;
use tenant as _;

fn main() -> std::process::ExitCode {
    frame_runtime::main()
}
";

const MANIFEST: &str = r#"
[clearnet]
allow = ["0.0.0.0/0"]
deadline = "100ms"

[functions."app:who"]
engine = "lua"
source = "who.lua"

[functions."app:outer"]
engine = "lua"
source = "outer.lua"
options = { tenant = "preset" }

[functions."app:impostor"]
engine = "lua"
source = "impostor.lua"

[functions."app:reach"]
engine = "lua"
source = "reach.lua"

[functions."app:narrow"]
engine = "lua"
source = "reach.lua"
options = { egress = ["127.0.0.1:1-9", "192.0.2.1"] }

[functions."app:asks"]
engine = "lua"
source = "asks.lua"
"#;

/// Returns what becomes of a connection to each destination.
const REACH: &str = r"
local outcomes = {}
for _, to in ipairs { '127.0.0.1:1', '127.0.0.1:10', '192.0.2.1:1' } do
  local ok, failure = pcall(net.connect, to)
  outcomes[#outcomes + 1] = ok and 'open' or failure.kind
end
return table.concat(outcomes, ' ')";

/// The program `acme`, which is `frame` with the options `tenant` and `local_only`, and an app for it.
fn acme() -> (Project, Built) {
    let project = Project::new("third_party");
    let registry = format!(
        "frame-registry = {{ path = \"{}/registry\", features = [\"json\"] }}",
        workspace().display()
    );
    // Without WebAssembly, which would be built once more for this test alone.
    let runtime =
        format!("frame-runtime = {{ path = \"{}\", default-features = false }}", workspace().display());
    let net = format!("frame-net = {{ path = \"{}/net\" }}", workspace().display());
    project.package("tenant", "", std::slice::from_ref(&registry), "src/lib.rs", TENANT);
    project.package("local_only", "", &[registry, net], "src/lib.rs", LOCAL_ONLY);
    let options = [runtime, Project::sibling("tenant"), Project::sibling("local_only")];
    project.package("acme", "", &options, "src/main.rs", PROGRAM);
    project.write("acme/reach.lua", REACH);
    project.write("acme/asks.lua", "return call('app:reach', nil, { local_only = ... })");
    project.write("acme/app.toml", MANIFEST);
    project.write("acme/who.lua", "return frame.get('tenant')");
    project.write("acme/outer.lua", "return { own = frame.get('tenant'), nested = call('app:who') }");
    project.write("acme/impostor.lua", "return call('app:who', nil, { tenant = 'somebody else' })");
    let built = project.build("acme", BuildOptions::default());
    (project, built)
}

#[test]
fn an_option_of_another_crate_reaches_scripts_with_no_source_changed() {
    let (project, built) = acme();
    let manifest = project.path("acme/app.toml");
    let call = |function: &str, options: &[&str]| {
        let mut arguments = vec![OsStr::new("call"), manifest.as_os_str(), OsStr::new(function)];
        arguments.extend(["--format", "json"].map(OsStr::new));
        arguments.extend(options.iter().map(OsStr::new));
        built.run("acme", &arguments).trim().to_owned()
    };
    assert_eq!(call("app:who", &["-o", "tenant=acme"]), r#""acme""#);
    assert_eq!(call("app:who", &[]), "null");
    assert_eq!(call("app:outer", &[]), r#"{"nested":"preset","own":"preset"}"#);
    assert_eq!(call("app:outer", &["-o", "tenant=acme"]), r#"{"nested":"acme","own":"acme"}"#);

    let resolvers = built.run("acme", &[OsStr::new("resolvers")]);
    assert!(resolvers.contains("tenant/src/lib.rs"), "{resolvers}");

    let refused = |arguments: &[&str]| {
        let output = std::process::Command::new(built.artifact("acme"))
            .arg("call")
            .arg(&manifest)
            .args(arguments)
            .output()
            .expect("it is a program");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, misspelt) = refused(&["app:who", "-o", "tennant=acme"]);
    assert!(code == Some(2) && misspelt.contains("did you mean `tenant`?"), "{code:?} {misspelt}");
    let (code, impostor) = refused(&["app:impostor"]);
    assert!(
        code == Some(5) && impostor.contains("a script does not choose its tenant"),
        "{code:?} {impostor}"
    );
}

#[test]
fn an_option_of_another_crate_narrows_where_units_connect_with_no_source_changed() {
    let (project, built) = acme();
    let manifest = project.path("acme/app.toml");
    let call = |function: &str, payload: &str, options: &[&str]| {
        let mut arguments =
            vec![OsStr::new("call"), manifest.as_os_str(), OsStr::new(function), OsStr::new(payload)];
        arguments.extend(options.iter().map(OsStr::new));
        built.run("acme", &arguments).trim().to_owned()
    };
    // Nothing answers at these addresses, so what may be reached is unavailable or late.
    let is_denied = |outcomes: String| {
        outcomes.trim_matches('"').split(' ').map(|kind| kind == "denied").collect::<Vec<_>>()
    };
    let local = ["-o", "local_only=true"];
    assert_eq!(is_denied(call("app:reach", "null", &[])), [false, false, false]);
    assert_eq!(is_denied(call("app:reach", "null", &local)), [false, false, true]);
    // Beside the list that the manifest has, of which it takes away, too.
    assert_eq!(is_denied(call("app:narrow", "null", &[])), [false, true, false]);
    assert_eq!(is_denied(call("app:narrow", "null", &local)), [false, true, true]);
    // A script narrows with it, and does not widen.
    assert_eq!(is_denied(call("app:asks", "true", &[])), [false, false, true]);
    assert_eq!(is_denied(call("app:asks", "false", &[])), [false, false, false]);
    assert_eq!(is_denied(call("app:asks", "false", &local)), [false, false, true]);
}
