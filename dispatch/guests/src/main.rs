//! Writes components to files: all that the tests have, or the one of a file.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(PathBuf::from).collect();
    let (written, place) = match &*arguments {
        [directory] => (write_all(directory), directory),
        [fields, component] => (write_one(fields, component), fields),
        _ => {
            eprintln!("usage: cargo run -p frame-guests -- <directory>");
            eprintln!("       cargo run -p frame-guests -- <fields.wat> <component.wasm>");
            return ExitCode::from(2);
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", place.display());
            ExitCode::FAILURE
        }
    }
}

fn write_one(fields: &std::path::Path, component: &std::path::Path) -> io::Result<()> {
    fs::write(component, frame_guests::component(&fs::read_to_string(fields)?))
}

fn write_all(directory: &std::path::Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, _) in frame_guests::GUESTS {
        let path = directory.join(name).with_extension("wasm");
        fs::write(&path, frame_guests::guest(name))?;
        println!("{}", path.display());
    }
    Ok(())
}
