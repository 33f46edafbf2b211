//! An option of somebody else's: one crate, linked into the program, and no source of this workspace is changed for it.

use std::ffi::OsStr;

use frame_tests::{BuildOptions, Built, Project, workspace};

/// All there is to an option: its declaration, its key, and the function that decides the key.
const TENANT: &str = r#"
#![forbid(unsafe_code)]
use frame_registry::{Context, FrameOption, Key, Options, Pair, frame_option, frame_resolver};

/// Whose work this is.
#[frame_option(name = "tenant", empty_is_unset)]
pub static TENANT: FrameOption<String>;

/// The tenant of a frame; forks inherit it, and scripts see it.
pub static TENANT_OF: Key<String> = Key::new("tenant").inherit().public();

#[frame_resolver(order = 300, covers(TENANT))]
fn tenant(_: &Context<'_>, options: &Options) -> Result<Option<Pair>, String> {
    match options.get(&TENANT) {
        Some(_) if !options.is_trusted(&TENANT) => Err("a script does not choose its tenant".to_owned()),
        _ => Ok(options.pair(&TENANT, &TENANT_OF)),
    }
}
"#;

const PROGRAM: &str = r"
use tenant as _;

fn main() -> std::process::ExitCode {
    frame_runtime::main()
}
";

const MANIFEST: &str = r#"
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
"#;

/// The program `acme`, which is `frame` with the option `tenant`, and an app for it.
fn acme() -> (Project, Built) {
    let project = Project::new("third_party");
    let registry = format!(
        "frame-registry = {{ path = \"{}/registry\", features = [\"json\"] }}",
        workspace().display()
    );
    // Without WebAssembly, which would be built once more for this test alone.
    let runtime =
        format!("frame-runtime = {{ path = \"{}\", default-features = false }}", workspace().display());
    project.package("tenant", "", &[registry], "src/lib.rs", TENANT);
    project.package("acme", "", &[runtime, Project::sibling("tenant")], "src/main.rs", PROGRAM);
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
