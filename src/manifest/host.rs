//! `[hosts]`.

use frame_dispatch::process::HostConfig;
use serde_json::{Value as Json, json};

use super::reader::{Read, Table};

/// What processes are run by: supervisors are `native`, as is what the program itself brings.
pub(super) const ENGINES: [&str; 3] = ["lua", "native", "wasm"];

pub(super) fn host(table: &Table<'_>) -> Read<(HostConfig, Json)> {
    table.only(&["processes", "mailbox", "timers", "groups", "group_members", "engines"]);
    let default = HostConfig::default();
    let processes = table.or("processes", default.processes, |value| value.count(1, "1000"));
    let mailbox = table.or("mailbox", default.mailbox, |value| value.count(1, "64"));
    let timers = table.or("timers", default.timers, |value| value.count(0, "16"));
    let groups = table.or("groups", default.groups, |value| value.count(0, "8"));
    let members = table.or("group_members", default.group_members, |value| value.count(0, "100"));
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
    let (timers, groups, members) = (timers?, groups?, members?);
    let identity = json!({
        "processes": processes, "mailbox": mailbox, "timers": timers, "groups": groups, "group_members": members,
        "engines": engines,
    });
    let host = HostConfig::default().with_processes(processes).with_mailbox(mailbox);
    let host = host.with_timers(timers).with_groups(groups).with_group_members(members);
    Ok((engines.map_or_else(|| host.clone(), |engines| host.clone().with_engines(engines)), identity))
}
