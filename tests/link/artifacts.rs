//! Libraries: nothing is lost in them, or they do not link.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use frame_tests::{BuildOptions, Program, Project, run};

/// A crate whose option pulls in its resolver, and one whose resolver nothing refers to.
fn project(name: &str) -> Project {
    let project = Project::new(name);
    let covered = "#![forbid(unsafe_code)]\n\
        use frame_registry::{FrameOption, Options, Pair, ResolveContext, frame_option, frame_resolver};\n\
        #[frame_option(name = \"network\")]\n\
        pub static NETWORK: FrameOption<u32>;\n\
        #[frame_option(name = \"timeout\", dispatcher)]\n\
        pub static TIMEOUT: FrameOption<u32>;\n\
        #[frame_option(name = \"tenant\", runtime)]\n\
        pub static TENANT: FrameOption<u32>;\n\
        #[frame_resolver(order = 200, covers(NETWORK))]\n\
        fn overlay(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, String> { Ok(None) }\n";
    project.package("covered", "", &[Project::registry()], "src/lib.rs", covered);
    let alone = "#![forbid(unsafe_code)]\n\
        use frame_registry::{Options, Pair, ResolveContext, frame_resolver};\n\
        pub fn used() {}\n\
        mod deep {\n\
            use super::*;\n\
            #[frame_resolver(order = 100)]\n\
            fn stamp(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, String> { Ok(None) }\n\
        }";
    project.package("alone", "", &[Project::registry()], "src/lib.rs", alone);
    project
}

fn library(project: &Project, name: &str, kind: &str, head: &str) {
    let source = format!(
        "use frame_registry::{{App, ResolveContext, FrameResolvers, Options, Pairs}};\n\
         {head}\n\
         #[unsafe(no_mangle)]\n\
         pub extern \"C\" fn list_resolvers() {{\n\
             alone::used();\n\
             let linked = FrameResolvers::linked();\n\
             let options = Options::new().with(&covered::NETWORK, 1);\n\
             let app = App::builder().build();\n\
             linked.resolve(&ResolveContext::new(&app, None), &options, &mut Pairs::new()).unwrap();\n\
             println!(\"{{}}\", linked.layout().as_str());\n\
             linked.iter().for_each(|resolver| println!(\"{{}}\", resolver.name()));\n\
         }}\n"
    );
    let dependencies = [Project::registry(), Project::sibling("covered"), Project::sibling("alone")];
    project.package(name, &format!("[lib]\ncrate-type = [\"{kind}\"]"), &dependencies, "src/lib.rs", &source);
}

const C_MAIN: &str = "void list_resolvers(void);\nint main(void) { list_resolvers(); return 0; }\n";

fn link_with_cc(project: &Project, archive: &Path, arguments: &[String]) -> Result<PathBuf, String> {
    project.write("main.c", C_MAIN);
    let program = archive.with_extension("program");
    let output = Command::new("cc")
        .args([
            project.path("main.c").as_os_str(),
            archive.as_os_str(),
            OsStr::new("-o"),
            program.as_os_str(),
        ])
        .args(arguments)
        .args(["-lpthread", "-ldl", "-lm", "-lgcc_s"])
        .output()
        .expect("a C compiler is installed");
    if output.status.success() {
        return Ok(program);
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The linkers at hand, with and without the removal of unused sections.
fn linkers() -> Vec<Vec<String>> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc runs").stdout;
    let sysroot = String::from_utf8(sysroot).expect("a path").trim().to_owned();
    let rust_lld = format!("-B{sysroot}/lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld");
    let gnu = vec!["-fuse-ld=bfd".to_owned()];
    let lld = vec![rust_lld, "-fuse-ld=lld".to_owned()];
    let with_gc = |linker: &Vec<String>| [linker.clone(), vec!["-Wl,--gc-sections".to_owned()]].concat();
    vec![gnu.clone(), with_gc(&gnu), lld.clone(), with_gc(&lld)]
}

#[test]
fn a_staticlib_linked_from_c_has_the_resolvers_that_it_requires_or_that_cover_its_options() {
    let project = project("staticlib");
    library(&project, "archive", "staticlib", "frame_registry::require_resolvers!(\"stamp\");");
    for profile in ["dev", "release", "fat"] {
        let built = project.build("archive", BuildOptions { profile, ..BuildOptions::default() });
        let archive = built.artifact("libarchive.a");
        for linker in linkers() {
            let program = link_with_cc(&project, &archive, &linker)
                .unwrap_or_else(|error| panic!("{linker:?}: {error}"));
            assert_eq!(run(&program, &[]), "first-use\nstamp\noverlay\n", "{profile}, {linker:?}");
        }
    }
}

#[test]
fn a_staticlib_that_requires_what_is_not_there_does_not_link() {
    let project = project("staticlib-missing");
    library(&project, "lacking", "staticlib", "frame_registry::require_resolvers!(\"stamp\", \"tracing\");");
    for profile in ["dev", "release"] {
        let built = project.build("lacking", BuildOptions { profile, ..BuildOptions::default() });
        for linker in linkers() {
            let error =
                link_with_cc(&project, &built.artifact("liblacking.a"), &linker).expect_err("it linked");
            assert!(error.contains("frame_resolver_tracing_is_not_linked"), "{profile}, {linker:?}: {error}");
        }
    }
}

#[test]
fn a_cdylib_has_every_resolver_and_exports_none_of_the_guards() {
    let project = project("cdylib");
    library(&project, "shared", "cdylib", "");
    for profile in ["dev", "release", "thin", "fat"] {
        let built = project.build("shared", BuildOptions { profile, ..BuildOptions::default() });
        let library = built.artifact("libshared.so");
        // The bounds of linkme's sections are there too; they are protected, so that no other library replaces them.
        let mut exports = Program::read(&library).exports();
        exports.retain(|name| !name.starts_with("__start_link") && !name.starts_with("__stop_link"));
        // As are the options, which rustc exports under the names that they have for resolvers.
        let options = ["network", "tenant", "timeout"].map(|name| format!("frame_option_{name}"));
        exports.retain(|name| !options.contains(name));
        assert_eq!(exports, ["list_resolvers"], "{profile}");
        let program =
            link_with_cc(&project, &library, &[format!("-Wl,-rpath,{}", built.artifacts.display())]).unwrap();
        assert_eq!(run(&program, &[]), "link-time\nstamp\noverlay\n", "{profile}");
    }
}

const PLUGIN: &str = r#"
use frame_registry::{App, FrameResolvers, Key, Options, Pair, Pairs, Registration, ResolveContext, Resolver, frame_resolver};
use std::time::Duration;

static GREETING: Key<&str> = Key::new("plugin.greeting");

/// In the plugin's own table; the host must not see it.
#[frame_resolver(order = 1)]
fn inside(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, String> { Ok(None) }

#[unsafe(no_mangle)]
pub fn plugin_start(host: &FrameResolvers) -> Registration {
    let names = |resolvers: &FrameResolvers| resolvers.iter().map(|r| r.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&FrameResolvers::linked()), ["inside"]);
    assert_eq!(names(host), ["own"], "the table is the host's, also seen from here");
    let greet = |_: &ResolveContext<'_>, _: &Options| Ok::<_, String>([GREETING.pair("hello")]);
    let registration = host.register(Resolver::new("greet", 5, greet)).unwrap();
    let app = App::builder().build();
    let mut pairs = Pairs::new();
    host.resolve(&ResolveContext::new(&app, None), &Options::new(), &mut pairs).unwrap();
    assert_eq!(pairs.get(&GREETING), Some(&"hello"));
    registration
}

#[unsafe(no_mangle)]
pub fn plugin_stop(registration: Registration) {
    registration.unregister_and_wait(Duration::from_secs(10)).unwrap();
}
"#;

const HOST: &str = r#"
use frame_registry::{App, FrameResolvers, Options, Pair, Pairs, Registration, ResolveContext, frame_resolver};
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

#[link(name = "dl")]
unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlclose(library: *mut c_void) -> c_int;
}

#[frame_resolver(order = 1)]
fn own(_: &ResolveContext<'_>, _: &Options) -> Result<Option<Pair>, String> { Ok(None) }

fn main() {
    let file = CString::new(std::env::args().nth(1).unwrap()).unwrap();
    let app = App::builder().build();
    let resolvers = FrameResolvers::linked();
    let resolve = || {
        let mut pairs = Pairs::new();
        resolvers.resolve(&ResolveContext::new(&app, None), &Options::new(), &mut pairs).unwrap();
        pairs
    };
    let show = || {
        let names: Vec<_> = resolvers.iter().map(|r| r.name().to_owned()).collect();
        println!("{names:?} {:?}", resolve());
    };
    for _ in 0..20 {
        show();
        let library = unsafe { dlopen(file.as_ptr(), 2 /* RTLD_NOW */) };
        assert!(!library.is_null());
        let symbol = |name: &std::ffi::CStr| unsafe { dlsym(library, name.as_ptr()) };
        let start: fn(&FrameResolvers) -> Registration = unsafe { std::mem::transmute(symbol(c"plugin_start")) };
        let stop: fn(Registration) = unsafe { std::mem::transmute(symbol(c"plugin_stop")) };
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // The host resolves all the while. When this thread has ended, no pair of the plugin is left.
            scope.spawn(|| while !is_done.load(Ordering::Acquire) { drop(resolve()); });
            let registration = start(&resolvers);
            show();
            stop(registration);
            is_done.store(true, Ordering::Release);
        });
        assert_eq!(unsafe { dlclose(library) }, 0);
    }
    show();
}
"#;

#[test]
fn a_plugin_registers_with_its_host_unregisters_and_is_unloaded() {
    let project = Project::new("plugin");
    project.package(
        "plugin",
        "[lib]\ncrate-type = [\"cdylib\"]",
        &[Project::registry()],
        "src/lib.rs",
        PLUGIN,
    );
    project.package("host", "", &[Project::registry()], "src/main.rs", HOST);
    for profile in ["dev", "release"] {
        let options = BuildOptions { profile, ..BuildOptions::default() };
        let plugin = project.build("plugin", options).artifact("libplugin.so");
        let printed = project.build("host", options).run("host", &[plugin.as_os_str()]);
        let (without, with) = (r#"["own"] {}"#, r#"["own", "greet"] {"plugin.greeting": "hello"}"#);
        let expected = [[without, with].repeat(20), vec![without]].concat();
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{profile}");
    }
}
