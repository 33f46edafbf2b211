//! Hands the linker a script that sorts the resolver table, where the linker takes one.
//!
//! Only some linkers accept a `SECTIONS … INSERT` script as an ordinary input (rust-lld does; GNU ld, gold and
//! mold do not), and nothing tells a build script which linker the final program gets. So it links a tiny
//! program with the same compiler, linker, flags and target, and looks at the file that comes out.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

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
    // Not `fs::copy`, which makes a copy that is read-only if the sources are, and cannot be written over.
    let script = fs::read(SCRIPT).expect("the script is beside this");
    fs::write(out.join(SCRIPT), script).expect("OUT_DIR is writable");
    match probe(out) {
        Ok(true) => {
            println!("cargo::rustc-link-search=native={}", out.display());
            println!("cargo::rustc-link-lib=dylib:+verbatim={SCRIPT}");
        }
        Ok(false) => {}
        Err(failure) => {
            println!(
                "cargo::warning=cannot tell whether this linker sorts the table of resolvers, so it is sorted at first \
                 use: a minimal program fails to link with these flags; to skip the attempt, set {SWITCH}=off"
            );
            for line in failure.lines() {
                println!("cargo::warning={line}");
            }
        }
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

const MARKERS: [&str; 3] = ["fr-prb-1", "fr-prb-2", "fr-prb-3"];

/// Whether the linker of this build accepts the script and sorts by it, or what it says to a program without the script.
fn probe(out: &Path) -> Result<bool, String> {
    // The elements hold an address, like the real ones, so that they land in the relocated, read-only segment.
    let elements = [1, 0, 2].map(|index| {
        format!(
            "#[used] #[unsafe(link_section = \".frame_resolvers.0000000{index}.probe\")] \
             static E{index}: E = E(*b\"{}\", &X);\n",
            MARKERS[index]
        )
    });
    let source =
        format!("struct E([u8; 8], &'static u8); static X: u8 = 1;\n{}fn main() {{}}\n", elements.concat());
    fs::write(out.join("probe.rs"), source).map_err(|error| error.to_string())?;

    if link(out, &["-L", ".", &format!("-ldylib:+verbatim={SCRIPT}")]).is_err() {
        // That a linker does not take the script is expected. That it links nothing is not.
        return link(out, &[]).map(|()| false);
    }
    let file = fs::read(out.join("probe")).map_err(|error| error.to_string())?;
    let place = |marker: &str| file.windows(8).position(|bytes| bytes == marker.as_bytes());
    let places: Vec<_> = MARKERS.iter().filter_map(|marker| place(marker)).collect();
    Ok(places.len() == 3 && places[1] == places[0] + 16 && places[2] == places[1] + 16)
}

/// Links the probe with the compiler, the linker, the flags and the target of this build; or what the linker says.
fn link(out: &Path, arguments: &[&str]) -> Result<(), String> {
    let variable = |name| env::var_os(name).ok_or_else(|| format!("Cargo does not set {name}"));
    let mut rustc = Command::new(variable("RUSTC")?);
    // What the flags have the linker write with a relative path is written there.
    rustc.current_dir(out);
    rustc.args([
        "probe.rs",
        "-o",
        "probe",
        "--crate-name",
        "probe",
        "--edition",
        "2024",
        "--crate-type",
        "bin",
    ]);
    rustc.arg("--target").arg(variable("TARGET")?);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut flag = OsString::from("-Clinker=");
        flag.push(linker);
        rustc.arg(flag);
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    rustc.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    // Flags that forbid warnings are not meant for the probe.
    rustc.args(["--cap-lints", "allow"]).args(arguments);
    let output =
        rustc.output().map_err(|error| format!("{}: {error}", rustc.get_program().to_string_lossy()))?;
    if output.status.success() { Ok(()) } else { Err(first_lines(&String::from_utf8_lossy(&output.stderr))) }
}

/// What went wrong, without the command, which is long.
fn first_lines(stderr: &str) -> String {
    let lines = stderr
        .lines()
        .map(|line| line.trim_start_matches([' ', '|', '=']).trim_start_matches("note:").trim());
    let left_out = ["\"", "some arguments are omitted", "error: aborting"];
    let told = lines.filter(|line| !line.is_empty() && !left_out.iter().any(|start| line.starts_with(start)));
    told.take(4).collect::<Vec<_>>().join("\n")
}
