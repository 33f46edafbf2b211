//! `frame`: runs apps of functions and processes whose frame context is resolved by compile-time registered options.

fn main() -> std::process::ExitCode {
    frame_runtime::main()
}
