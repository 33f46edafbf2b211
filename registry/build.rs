//! Hands the linker a script that sorts the resolver table, where the linker takes one.
//!
//! Only some linkers accept a `SECTIONS … INSERT` script as an ordinary input (rust-lld does; GNU ld, gold and
//! mold do not), and nothing tells a build script which linker the final program gets. So it links a tiny
//! program with the same compiler, linker, flags and target, and looks at the file that comes out.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const SCRIPT: &str = "frame_registry.ld";
const SWITCH: &str = "FRAME_REGISTRY_LINK_SORT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SCRIPT}");
    println!("cargo::rerun-if-env-changed={SWITCH}");
    println!("cargo::rustc-check-cfg=cfg(link_guarded)");

    if !is_guarded_target() {
        return;
    }
    println!("cargo::rustc-cfg=link_guarded");

    match env::var(SWITCH).as_deref() {
        Err(env::VarError::NotPresent) | Ok("auto") => {}
        Ok("off") => return,
        other => {
            println!("cargo::error={SWITCH} is {other:?}; write `auto` (the default) or `off`");
            return;
        }
    }

    let out = env::var("OUT_DIR").expect("Cargo sets OUT_DIR");
    let out = Path::new(&out);
    fs::copy(SCRIPT, out.join(SCRIPT)).expect("OUT_DIR is writable");
    if probe(out).unwrap_or(false) {
        println!("cargo::rustc-link-search=native={}", out.display());
        println!("cargo::rustc-link-lib=dylib:+verbatim={SCRIPT}");
    }
}

/// 64-bit ELF, where the assembly behind the guards was written for. Elsewhere the same is checked at first use.
fn is_guarded_target() -> bool {
    let is = |name, values: &[&str]| env::var(name).is_ok_and(|value| values.contains(&value.as_str()));
    is("CARGO_CFG_TARGET_OS", &["linux", "android"])
        && is("CARGO_CFG_TARGET_ARCH", &["x86_64", "aarch64"])
        && is("CARGO_CFG_TARGET_POINTER_WIDTH", &["64"])
        && env::var_os("CARGO_CFG_MIRI").is_none()
}

/// Whether the linker of this build accepts the script and sorts by it.
fn probe(out: &Path) -> Option<bool> {
    const MARKERS: [&[u8; 8]; 3] = [b"fr-prb-1", b"fr-prb-2", b"fr-prb-3"];

    let source = out.join("probe.rs");
    let program = out.join("probe");
    // The elements hold an address, like the real ones, so that they land in the relocated, read-only segment.
    let mut text = String::from("struct E([u8; 8], &'static u8); static X: u8 = 1;\n");
    for index in [1, 0, 2] {
        let marker = std::str::from_utf8(MARKERS[index]).ok()?;
        writeln!(
            text,
            "#[used] #[unsafe(link_section = \".frame_resolvers.0000000{index}.probe\")] \
             static E{index}: E = E(*b\"{marker}\", &X);"
        )
        .ok()?;
    }
    text += "fn main() {}\n";
    fs::write(&source, text).ok()?;

    let mut rustc = Command::new(env::var_os("RUSTC")?);
    rustc.arg(&source).args(["--crate-name", "probe", "--edition", "2024", "--crate-type", "bin"]);
    rustc.arg("--target").arg(env::var_os("TARGET")?);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = std::ffi::OsString::from("-Clinker=");
        flag.push(linker);
        rustc.arg(flag);
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    // Flags that forbid warnings are not meant for the probe.
    rustc.args(["--cap-lints", "allow"]);
    rustc.arg("-L").arg(out).arg(format!("-ldylib:+verbatim={SCRIPT}")).arg("-o").arg(&program);
    let linked = rustc.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?.success();
    if !linked {
        return Some(false);
    }

    let file = fs::read(&program).ok()?;
    let at: Vec<usize> =
        MARKERS.iter().filter_map(|marker| file.windows(8).position(|bytes| bytes == *marker)).collect();
    Some(at.len() == 3 && at[1] == at[0] + 16 && at[2] == at[1] + 16)
}
