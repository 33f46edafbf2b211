//! `[hosts]`.

use frame_dispatch::process::HostConfig;
use serde_json::{Value as Json, json};

use super::reader::{Read, Table};

/// What processes are run by: supervisors are `native`, as is what the program itself brings.
pub(super) const ENGINES: [&str; 3] = ["lua", "native", "wasm"];

pub(super) fn host(table: &Table<'_>) -> Read<(HostConfig, Json)> {
    table.only(&["processes", "mailbox", "engines"]);
    let default = HostConfig::default();
    let processes = table.or("processes", default.processes, |value| value.count(1, "1000"));
    let mailbox = table.or("mailbox", default.mailbox, |value| value.count(1, "64"));
    let engines = table.optional("engines", |value| {
        let choices = ENGINES.map(|name| (name, name));
        let engines = value.array("[\"lua\", \"wasm\"]")?;
        if engines.is_empty() {
            let problem = value.problem("a host without engines runs nothing");
            return Err(value.reader.report(problem.with_help("leave `engines` out to allow all of them")));
        }
        let engines: Vec<_> = engines.iter().map(|engine| engine.choice(&choices)).collect();
        engines.into_iter().collect::<Read<Vec<_>>>()
    });
    let (processes, mailbox, engines) = (processes?, mailbox?, engines?);
    let identity = json!({ "processes": processes, "mailbox": mailbox, "engines": engines });
    let host = HostConfig::default().with_processes(processes).with_mailbox(mailbox);
    Ok((engines.map_or_else(|| host.clone(), |engines| host.clone().with_engines(engines)), identity))
}
