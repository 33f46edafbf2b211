//! What compiles, and in which words the compiler refuses the rest. A case is one program under `ui/`, named for
//! what it shows; those in `ui/fail/` stand beside the compiler's output (`TRYBUILD=overwrite` writes it anew). The words that
//! are not the macros' own are those of rustc 1.95.

/// All in one set: a program that must build makes trybuild build the others too, not only check them, and two
/// resolvers of one name are refused only then.
#[test]
fn what_compiles_and_what_the_compiler_says_of_the_rest() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/pass/*.rs");
    cases.compile_fail("ui/fail/*.rs");
}

/// Mistakes in closures and `async fn`s that are registered as functions and processes.
#[test]
fn a_function_that_does_not_fit_is_refused_with_what_to_write() {
    trybuild::TestCases::new().compile_fail("ui/functions/*.rs");
}
