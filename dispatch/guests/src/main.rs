//! Writes the components to files.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: cargo run -p frame-guests -- <directory>");
        return ExitCode::from(2);
    };
    match write(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &std::path::Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, _) in frame_guests::GUESTS {
        let path = directory.join(name).with_extension("wasm");
        fs::write(&path, frame_guests::guest(name))?;
        println!("{}", path.display());
    }
    Ok(())
}
