//! Tests of a crate that declares an option, whose resolver is in another crate.

use std::process::Output;

use frame_tests::{BuildOptions, Project};

const DECLARES: &str = r#"
use frame_registry::{FrameOption, frame_option};

/// Whose work this is.
#[frame_option(name = "tenant")]
pub static TENANT: FrameOption<String>;
"#;

const COVERS: &str = r#"
use frame_registry::{Key, Options, Pair, ResolveContext, frame_resolver};

pub static TENANT_KEY: Key<String> = Key::new("tenant").inherit();

#[frame_resolver(order = 300, covers(declares::TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, std::convert::Infallible> {
    Ok(options.pair(&declares::TENANT, &TENANT_KEY))
}
"#;

/// What a test resolves with the option set, or how it is refused.
const RESOLVE: &str = r#"
use frame_registry::{App, FrameResolvers, Options, Pairs, ResolveContext};

fn resolve(resolvers: &FrameResolvers) -> Result<String, String> {
    let app = App::builder().build();
    let options = Options::new().with(&TENANT, "acme".to_owned());
    let mut pairs = Pairs::new();
    let resolved = resolvers.resolve(&ResolveContext::new(&app, None), &options, &mut pairs);
    resolved.map(|()| pairs.iter().map(|pair| pair.name()).collect()).map_err(|error| error.to_string())
}
"#;

/// The crate `declares`, with `source` in it, and its dev-dependency `covers`, which has the resolver of its option.
fn project(name: &str, source: &str) -> Project {
    let project = Project::new(name);
    let dev_dependency = format!("[dev-dependencies]\n{}", Project::sibling("covers"));
    let dependencies = [Project::registry(), dev_dependency];
    project.package("declares", "", &dependencies, "src/lib.rs", &format!("{DECLARES}{source}"));
    let dependencies = [Project::registry(), Project::sibling("declares")];
    project.package("covers", "", &dependencies, "src/lib.rs", COVERS);
    project
}

fn test(project: &Project, arguments: &[&str]) -> Output {
    project.test("declares", BuildOptions::default(), arguments)
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn assert_passed(output: &Output, how_many: usize) {
    let printed = printed(output);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains(&format!("test result: ok. {how_many} passed")), "{printed}");
}

#[track_caller]
fn assert_not_linked(output: &Output, symbol: &str) {
    let printed = printed(output);
    assert!(!output.status.success(), "it linked:\n{printed}");
    assert!(printed.contains(symbol), "`{symbol}` is not in:\n{printed}");
}

#[test]
fn unit_tests_link_and_refuse_the_option_until_a_resolver_covers_it() {
    let tests = r#"
        use frame_registry::{Key, Resolver};

        static STUB: Key<String> = Key::new("stub");

        #[test]
        fn without_a_resolver() {
            let refused = resolve(&FrameResolvers::linked()).unwrap_err();
            assert!(refused.contains("no resolver of this registry covers it"), "{refused}");
        }

        #[test]
        fn with_a_stub() {
            let stub = |_: &ResolveContext<'_>, options: &Options| Ok::<_, String>(options.pair(&TENANT, &STUB));
            let resolvers = FrameResolvers::empty();
            let _stub = resolvers.register(Resolver::new("stub", 1, stub).covers(&TENANT)).unwrap();
            assert_eq!(resolve(&resolvers).unwrap(), "stub");
        }
    "#;
    let source = format!("#[cfg(test)]\nmod tests {{\nuse super::*;\n{RESOLVE}{tests}}}");
    let project = project("option-only-unit-tests", &source);
    assert_passed(&test(&project, &["--lib"]), 2);
}

#[test]
fn unit_tests_that_link_the_resolver_of_a_dev_dependency_say_that_the_crate_is_there_twice() {
    let project = project("option-only-twice", "#[cfg(test)]\nuse covers as _;");
    let symbol = "frame_crate_declares_0_1_0_is_in_the_test_twice_with_option_tenant";
    assert_not_linked(&test(&project, &["--lib"]), symbol);
}

#[test]
fn integration_tests_link_with_the_resolver_and_not_without() {
    let project = project("option-only-integration-tests", "");
    let stub = "
        use frame_registry::{Key, Pair, frame_resolver};
        static STUB: Key<String> = Key::new(\"stub\");
        #[frame_resolver(order = 1, covers(TENANT))]
        fn stub(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, String> {
            Ok(options.pair(&TENANT, &STUB))
        }";
    let files = [("neither", "", ""), ("linked", "use covers as _;", "tenant"), ("stubbed", stub, "stub")];
    for (name, head, made) in files {
        let test = format!(
            "use declares::TENANT;\n{head}\n{RESOLVE}\n\
             #[test]\nfn resolves() {{ assert_eq!(resolve(&FrameResolvers::linked()).unwrap(), \"{made}\"); }}"
        );
        project.write(&format!("declares/tests/{name}.rs"), &test);
    }
    for name in ["linked", "stubbed"] {
        assert_passed(&test(&project, &["--test", name]), 1);
    }
    let neither = test(&project, &["--test", "neither"]);
    assert_not_linked(&neither, "frame_option_tenant_has_no_linked_resolver");
}

/// Two of them, because those of one crate are one program, in which a stub could be there only once.
#[test]
fn doctests_link_with_the_resolver_of_a_dev_dependency_and_not_without() {
    let doctest = |hidden: &str| {
        format!(
            "/// ```\n\
             {hidden}\
             /// use frame_registry::Options;\n\
             ///\n\
             /// let options = Options::new().with(&declares::TENANT, \"acme\".to_owned());\n\
             /// assert_eq!(options.get(&declares::TENANT).unwrap(), \"acme\");\n\
             /// ```\n"
        )
    };
    let linked = doctest("/// # use covers as _;\n");
    let source = format!("{linked}pub fn one() {{}}\n{linked}pub fn two() {{}}");
    let with = project("option-only-doctests", &source);
    assert_passed(&test(&with, &["--doc"]), 2);
    drop(with);

    let without = project("option-only-doctests", &format!("{}pub fn one() {{}}", doctest("")));
    let tested = test(&without, &["--doc"]);
    assert_not_linked(&tested, "frame_option_tenant_has_no_linked_resolver");
}
