//! Manifests, right and wrong.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use frame_dispatch::interceptor::TIMEOUT;
use frame_dispatch::lua::LuaConfig;
use frame_dispatch::process::supervisor::{Backoff, Restart, Shutdown, Strategy};
use frame_registry::text::is_printable;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// The example that the documentation of this module has.
fn example() -> String {
    let lines = include_str!("mod.rs").lines().skip_while(|line| *line != "//! ```toml").skip(1);
    let lines = lines.take_while(|line| *line != "//! ```");
    let lines: Vec<_> = lines.map(|line| line.trim_start_matches("//!").trim_start()).collect();
    lines.join("\n") + "\n"
}

/// The limits of a script.
fn of_script(function: &Function) -> &LuaConfig {
    match &function.limits {
        Limits::Lua(limits) => limits,
        #[cfg(feature = "wasm")]
        Limits::Wasm(_) => panic!("{function:?}"),
    }
}

/// A directory with what the manifests here name.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("data")).unwrap();
    for script in ["greet.lua", "ticker.lua"] {
        fs::write(directory.path().join(script), "return 1\n").unwrap();
    }
    fs::write(directory.path().join("bytes.lua"), [0xff, 0xfe]).unwrap();
    fs::write(directory.path().join("long.lua"), vec![b' '; (1 << 20) + 1]).unwrap();
    directory
}

fn parse(text: &str) -> Reading {
    Manifest::parse("app.toml", text, directory().path())
}

fn good(text: &str) -> Manifest {
    parse(text).into_result().unwrap_or_else(|problems| panic!("{problems}"))
}

/// What is wrong: the text of each place, and what is said of it.
fn wrong(text: &str) -> Vec<(String, String)> {
    let problems = parse(text).into_result().expect_err(text);
    let said = |problem: &Problem| {
        let parts = [Some(&*problem.message), problem.label.as_deref(), problem.help.as_deref()];
        let related = problem
            .related
            .iter()
            .map(|(span, label)| format!("{label}: {}", &problem.file.text[span.clone()]));
        let parts = parts.into_iter().flatten().map(str::to_owned).chain(related).collect::<Vec<_>>();
        (problem.file.text[problem.span.clone()].to_owned(), parts.join(" | "))
    };
    problems.iter().map(said).collect()
}

#[test]
fn the_documented_example_reads_into_what_it_says() {
    let manifest = good(&example());
    assert_eq!(manifest.app.name, "hello");
    assert_eq!(manifest.app.options.get(&TIMEOUT).unwrap().duration(), Duration::from_mins(1));
    assert_eq!(manifest.clearnet.allow.len(), 1);
    assert_eq!(manifest.networks[&"app:tor".parse().unwrap()].value.kind(), "socks5");
    assert_eq!(manifest.limits.connections(), 10_000);
    assert_eq!(manifest.http.time_limit, Duration::from_secs(10));
    assert!(manifest.base.unwrap().value.ends_with("data"));
    let otlp = manifest.otlp.unwrap();
    assert_eq!((otlp.endpoint.as_str(), otlp.headers.len()), ("http://127.0.0.1:4318", 0));

    let greet = &manifest.functions[&"app:greet".parse().unwrap()].value;
    assert_eq!((greet.options.len(), &*greet.source.bytes), (2, &b"return 1\n"[..]));
    let limits = of_script(greet);
    assert_eq!((limits.memory, limits.time, limits.payload), (32 << 20, Duration::from_secs(30), 1 << 20));
    assert_eq!((limits.pool.size, limits.pool.max_wait), (8, Duration::from_secs(5)));

    let host = &manifest.hosts[&"app:workers".parse().unwrap()].value;
    assert_eq!((host.processes, host.mailbox), (1000, 64));
    assert_eq!((host.timers, host.groups, host.group_members), (16, 8, 100));
    let ticker = &manifest.processes[&"app:ticker".parse().unwrap()].value;
    let limits = of_script(ticker);
    assert_eq!((limits.time, limits.pool.size), (Duration::MAX, usize::MAX));

    let main = &manifest.supervisors[&"app:main".parse().unwrap()].value;
    assert_eq!((main.strategy, main.intensity), (Strategy::OneForOne, (3, Duration::from_secs(5))));
    let backoff = Backoff::default().with_reset_after(Duration::from_mins(1));
    assert_eq!(main.backoff, backoff);
    let child = &main.children[0].value;
    assert_eq!((child.id.as_str(), child.name.as_deref()), ("ticker", Some("ticker")));
    assert_eq!(
        (child.restart, child.shutdown),
        (Restart::Permanent, Shutdown::Within(Duration::from_secs(5)))
    );
    assert_eq!((&child.payload["every"], child.options.len()), (&1.into(), 1));

    let pool = &manifest.supervisors[&"app:pool".parse().unwrap()].value;
    let dynamic = pool.dynamic.as_ref().unwrap();
    assert_eq!((pool.children.len(), dynamic.max_children), (0, Some(100)));
    let template = &dynamic.template.value;
    assert_eq!((template.id.as_str(), template.process.as_str()), ("ticker", "app:ticker"));
    assert_eq!((template.restart, template.host.as_str()), (Restart::Transient, "app:workers"));
}

#[test]
fn a_manifest_may_be_empty() {
    let manifest = good("");
    assert!(manifest.functions.is_empty() && manifest.base.is_none() && !manifest.app.name.is_empty());
}

#[test]
fn a_supervisor_below_another_has_the_time_it_takes() {
    let manifest = good(
        "[hosts.\"a:h\"]\n[supervisors.\"a:top\"]\nhost = \"a:h\"\nchildren = [{ id = \"s\", process = \"a:s\" }]\n\
         [supervisors.\"a:s\"]\nhost = \"a:h\"\n",
    );
    let top = &manifest.supervisors[&"a:top".parse().unwrap()].value;
    assert_eq!(top.children[0].value.shutdown, Shutdown::Unlimited);
}

/// Each alone in a manifest: its text, the text that is pointed at, and what is said, in parts.
const WRONG: &[(&str, &str, &[&str])] = &[
    ("[ap]", "ap", &["has no member `ap`", "`app`?", "`supervisors`"]),
    ("app = 3", "3", &["`app` has to be a table", "a whole number"]),
    ("[app]\nnaem = 'x'", "naem", &["`name`?"]),
    ("[app]\nmax_depth = 0", "0", &["`max_depth`", "from 1 to 4294967295"]),
    ("[app]\nmax_depth = 'deep'", "'deep'", &["`max_depth` has to be a whole number", "1000"]),
    (
        "[app]\noptions = { netwrk = 'a:b' }",
        "netwrk",
        &["did you mean `network`?", "available options", "`timeout`"],
    ),
    ("[app]\nname = ''", "''", &["`name` is empty", "leave it out"]),
    ("[app]\noptions = { network = '' }", "''", &["option `network` is empty", "leave it out"]),
    ("[app]\noptions = { isolation = '' }", "''", &["option `isolation` is empty"]),
    ("[app]\noptions = { fs_root = '' }", "''", &["option `fs_root` is empty"]),
    ("[app]\noptions = { trace = '' }", "''", &["`trace`"]),
    (
        "[functions.'a:f']\nengine = 'lua'\nsource = 'greet.lua'\noptions = { network = '' }",
        "''",
        &["option `network` is empty", "leave it out"],
    ),
    ("[fs]\nbase = ''", "''", &["`base` is empty", "`.`"]),
    (
        "[app]\noptions = { egress = ['*'] }",
        "'*'",
        &["invalid value for the option `egress`", "would allow every name"],
    ),
    (
        "[fs]\nbase = 'data'\n[secrets.'a:key']\nfile = 'data/key'\nhosts = ['a.example']",
        "'data/key'",
        &["below the base directory of `[fs]`"],
    ),
    ("[app]\noptions = { timeout = 5 }", "5", &["option `timeout`", "such as \"2s\""]),
    ("[app]\noptions = { timeout = 1979-05-27 }", "1979-05-27", &["date", "in quotes"]),
    ("[app]\noptions = { retry = nan }", "nan", &["finite"]),
    (
        "[app]\noptions = { network = 'a:tr' }\n[networks.'a:tor']\nkind = 'direct'",
        "'a:tr'",
        &["unknown network", "`a:tor`?"],
    ),
    ("[app]\noptions = { network = 'a:tr' }", "'a:tr'", &["no networks", "[networks.\"a:tr\"]"]),
    ("[clearnet]\nalow = []", "alow", &["`allow`?", "`deny`"]),
    ("[clearnet]\nallow = ['10.0.0.0/8', 'nonsense:x']", "'nonsense:x'", &["`allow[1]`"]),
    ("[clearnet]\ndeadline = '0s'", "'0s'", &["`deadline`", "longer than zero"]),
    ("[clearnet]\ndeadline = 5", "5", &["`deadline`", "write \"5s\""]),
    ("[clearnet]\ndeadline_ms = 5", "deadline_ms", &["did you mean `deadline`?"]),
    ("[limits]\nconections = 5", "conections", &["did you mean `connections`?"]),
    ("[limits]\nlookups = 0", "0", &["`lookups`", "at least 1"]),
    ("[limits]\nconnections_per_unit = '5'", "'5'", &["`connections_per_unit`", "a whole number"]),
    (
        "[limits]\nconnections = '${NOT_SET_ANYWHERE}'",
        "'${NOT_SET_ANYWHERE}'",
        &["not replaced in `connections`"],
    ),
    (
        "[limits]\nconnections = 100\nconnections_per_unit = 101",
        "101",
        &["`connections_per_unit` is 101", "the 100 that all", "raise `connections`"],
    ),
    ("[limits]\nlookups = 10\nlookups_per_unit = 11", "11", &["`lookups_per_unit` is 11"]),
    ("[http]\nmax_request_body = '16 stones'", "'16 stones'", &["`max_request_body`", "a size", "\"16MiB\""]),
    ("[http]\nmax_response_head = '1MiB'", "'1MiB'", &["at most 409600"]),
    (
        "[networks.'a:b']\nkind = 'direct'\n[[http.tls]]\nnetworks = ['a:b', 'a:c']\nroots = 'only'",
        "'a:c'",
        &["unknown network `a:c` in `tls[0].networks`", "did you mean `a:b`?", "available networks: `a:b`"],
    ),
    ("[[http.tls]]\nnetworks = ['a:b']\nroots = 'only'", "'a:b'", &["no networks are configured"]),
    (
        "[networks.'a:b']\nkind = 'direct'\n[http.headers]\nx-a = [{ value = '1', networks = ['a:c'] }]",
        "*****",
        &["unknown network `a:c` in `headers.x-a[0].networks`", "did you mean `a:b`?"],
    ),
    (
        "[http]\nheaders = { x-a = { value = '1', networks = ['a:c'] } }",
        "*****",
        &["unknown network `a:c` in `headers.x-a.networks`"],
    ),
    (
        "[http.headers]\nauthorization = 'Bearer x'",
        "**********",
        &["`authorization` is sensitive", "needs `hosts`"],
    ),
    ("[http.headers]\nx-a = '${NOT_SET_ANYWHERE}'", "x-a", &["is not set"]),
    ("[http]\nheader = { x-a = 'x' }", "header", &["did you mean `headers`?"]),
    ("[http]\ntime_limit_ms = 5", "time_limit_ms", &["did you mean `time_limit`?"]),
    ("[http]\nidle_timeout = '5 fortnights'", "'5 fortnights'", &["`idle_timeout`", "\"1m30s\""]),
    ("[http]\nmax_response_head = 1_000_000", "1_000_000", &["at most 409600"]),
    ("[http]\ntimeout = '5s'", "timeout", &["unknown key", "did you mean `time_limit`?"]),
    ("[http]\nhttp2 = 'yes'", "'yes'", &["`http2`", "boolean"]),
    ("[networks.tor]\nkind = 'direct'", "tor", &["namespace"]),
    ("[networks.'a:b']\nproxy = 'h:1'", "[networks.'a:b']", &["no `kind`", "kind = \"socks5\""]),
    ("[networks.'a:b']\nkind = 'sock5'", "'sock5'", &["unknown kind", "`socks5`?", "`wireguard`"]),
    ("[networks.'a:b']\nkind = 5", "*", &["has to be a string"]),
    (
        "[networks.'a:b']\nkind = 'socks5'\nproxy = '${NOT_SET_ANYWHERE}:1'",
        "proxy",
        &["variable `NOT_SET_ANYWHERE` is not set", "write the value here"],
    ),
    (
        "[networks.'a:b']\nkind = 'socks5'\nproxy = '${PATH:-h:1}'",
        "proxy",
        &["is not followed by the name", "a default is not supported", "`$${`"],
    ),
    ("[networks.'a:b']\nkind = '${PATH}'", "'${PATH}'", &["variables are not replaced in `kind`"]),
    (
        "[networks.'a:b']\nkind = '${NOT_SET_ANYWHERE}'",
        "'${NOT_SET_ANYWHERE}'",
        &["variables are not replaced in `kind`"],
    ),
    ("[clearnet]\nallow = ['${NOT_SET_ANYWHERE}']", "'${NOT_SET_ANYWHERE}'", &["is not set"]),
    ("[clearnet]\nallow = ['${PATH}']", "'${PATH}'", &["not valid with the value of `${PATH}`", "not shown"]),
    ("[http]\ntime_limit = '${PATH}'", "'${PATH}'", &["not a valid duration"]),
    ("[telemetry]\notlp = 'http://${NOT_SET_ANYWHERE}'", "otlp", &["is not set"]),
    ("[fs]\nbase = '${HOME}'", "'${HOME}'", &["not replaced in `base`"]),
    ("[app]\noptions = { network = '${HOME}' }", "'${HOME}'", &["not replaced in `network`"]),
    ("[fs]\nbase = 'dat'", "'dat'", &["no directory", "paths begin at"]),
    ("[fs]\nbase = 'greet.lua'", "'greet.lua'", &["is no directory"]),
    ("[fs]", "[fs]", &["no `base`"]),
    ("[telemetry]\notlp = 'localhost:4317'", "'localhost:4317'", &["URL"]),
    ("[telemetry]\notlp = 'ftp://h'", "'ftp://h'", &["`http` or `https`"]),
    ("[telemetry]\notlp = 'http://u:p@h'", "**************", &["none is sent", "`headers`"]),
    ("[telemetry]\notlp = 'http://h/?t=p'", "***************", &["none is sent", "`headers`"]),
    ("[telemetry]\notlp = 'http://h'\nheaders = { 'a b' = 'x' }", "*****", &["no name of a header"]),
    (
        "[telemetry]\notlp = 'http://h'\nheaders = { a = \"\\n\" }",
        "****",
        &["a character that none can have"],
    ),
    ("[functions.'a:f']\nsource = 'greet.lua'", "[functions.'a:f']", &["no `engine`", "engine = \"lua\""]),
    ("[functions.'a:f']\nengine = 'lua'", "[functions.'a:f']", &["no `source`"]),
    ("[functions.'a:f']\nengine = 'luaa'\nsource = 'greet.lua'", "'luaa'", &["`lua`?", "`wasm`"]),
    (
        "[functions.'a:f']\nengine = 'lua'\nsource = 'gret.lua'",
        "'gret.lua'",
        &["no file", "`greet.lua`?", "paths begin at"],
    ),
    ("[functions.'a:f']\nengine = 'lua'\nsource = 'data'", "'data'", &["is a directory"]),
    ("[functions.'a:f']\nengine = 'lua'\nsource = 'bytes.lua'", "'bytes.lua'", &["UTF-8"]),
    ("[functions.'a:f']\nengine = 'lua'\nsource = 'long.lua'", "'long.lua'", &["larger than 1MiB"]),
    ("[functions.'a:f']\nengine = 'lua'\nsource = ['greet.lua']", "['greet.lua']", &["a string", "a list"]),
    ("[functions.'f']\nengine = 'lua'\nsource = 'greet.lua'", "'f'", &["namespace"]),
    (
        "[functions.'a:f']\nengine = 'lua'\nsource = 'greet.lua'\n[functions.'a:f']",
        "'a:f'",
        &["twice", "first: 'a:f'"],
    ),
    (
        "[functions.'a:f']\nengine = 'lua'\nsource = 'greet.lua'\nengine = 'lua'",
        "engine",
        &["twice", "first: engine"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { memory = 0 } }",
        "0",
        &["out of range", "64KiB"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { memory = '1 ton' } }",
        "'1 ton'",
        &["no size", "powers of 1024"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { time = 5 } }",
        "5",
        &["a duration", "\"30s\""],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { time = '0s' } }",
        "'0s'",
        &["longer than zero"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { wait = 'soon' } }",
        "'soon'",
        &["no duration"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { calls = 0 } }",
        "0",
        &["at least 1"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { calls = -1 } }",
        "-1",
        &["at least 1"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { calls = 2, warm = 3 } }",
        "3",
        &["from 0 to 2"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { fresh_vm = true, idle = 1 } }",
        "1",
        &["no effect"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { table_elements = 1 } }",
        "table_elements",
        &["a limit of components"],
    ),
    (
        "[functions]\n'a:f' = { engine = 'lua', source = 'greet.lua', limits = { memry = 1 } }",
        "memry",
        &["`memory`?"],
    ),
    (
        "[processes]\n'a:p' = { engine = 'lua', source = 'greet.lua', options = { timeout = '2s' } }",
        "'2s'",
        &["not called", "limits.time"],
    ),
    ("[hosts.'a:h']\nprocesses = 0", "0", &["at least 1"]),
    ("[hosts.'a:h']\ntimers = -1", "-1", &["at least 0"]),
    ("[hosts.'a:h']\ngroup = 1", "group", &["`groups`?"]),
    ("[hosts.'a:h']\nengines = ['lua', 'ruby']", "'ruby'", &["`native`"]),
    ("[hosts.'a:h']\nengines = []", "[]", &["runs nothing"]),
    ("[supervisors.'a:s']\nhost = 'a:h'", "'a:h'", &["no host", "[hosts.\"a:h\"]"]),
    ("[supervisors.'a:s']", "[supervisors.'a:s']", &["no `host`"]),
    (
        "[hosts.'a:h']\nengines = ['lua']\n[supervisors.'a:s']\nhost = 'a:h'",
        "'a:h'",
        &["`native`", "runs lua: 'a:h'"],
    ),
    (
        "[hosts.'a:h']\n[supervisors.'a:s']\nhost = 'a:h'\nstrategy = 'one_for_al'",
        "'one_for_al'",
        &["`one_for_all`?"],
    ),
    ("[hosts.'a:h']\n[supervisors.'a:s']\nhost = 'a:h'\nrestarts = -1", "-1", &["from 0 to 4294967295"]),
    ("[hosts.'a:h']\n[supervisors.'a:s']\nhost = 'a:h'\nwithin = '0s'", "'0s'", &["longer than zero"]),
    ("[hosts.'a:h']\n[supervisors.'a:s']\nhost = 'a:h'\nbackoff = { factor = 0.5 }", "0.5", &["1 or more"]),
    ("[hosts.'a:h']\n[supervisors.'a:s']\nhost = 'a:h'\nbackoff = { jitter = 2 }", "2", &["from 0 to 1"]),
    (
        "[hosts.'a:h']\n[supervisors.'a:s']\nhost = 'a:h'\nbackoff = { first = '1m' }",
        "'1m'",
        &["longer than the longest, 10s"],
    ),
    (
        "[hosts.'a:h']\n[supervisors.'a:s']\nhost = 'a:h'\nchildren = [{ id = 'x', process = 'a:p' }]",
        "'a:p'",
        &["unknown process or supervisor", "`a:s`"],
    ),
    (
        "[hosts.'a:h']\n[supervisors.'a:s']\nhost = 'a:h'\nchildren = [{ id = '', process = 'a:s' }]",
        "''",
        &["empty id"],
    ),
    (
        "[hosts.'a:h']\n[supervisors.'a:s']\nhost = 'a:h'\nchildren = [{ id = 'x', process = 'a:s' }]",
        "'a:s'",
        &["below itself: a:s > a:s"],
    ),
    ("[supervisors.'a:s']\nhost = 'a:h'\n[hosts.'a:h'", "", &["unclosed table"]),
    ("x = ", "", &["string"]),
];

#[test]
fn every_mistake_is_said_once_at_its_place_with_what_would_be_right() {
    let mut missed = Vec::new();
    for (text, place, parts) in WRONG {
        let said = wrong(text);
        let is_right = match said.as_slice() {
            [(at, what)] => at == place && parts.iter().all(|part| what.contains(part)),
            _ => false,
        };
        if !is_right {
            missed.push(format!("{text}\n  should say {parts:?} of {place:?}, and says {said:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

const TREE: &str = "
[hosts.'a:all']
[hosts.'a:wasm']
engines = ['native', 'wasm']
[processes]
'a:p' = { engine = 'lua', source = 'ticker.lua' }
[supervisors.'a:top']
host = 'a:all'
";

#[test]
fn the_tree_of_supervisors_is_checked() {
    let child = |members: &str| wrong(&format!("{TREE}children = [{members}]"));
    let both = "{ id = 'x', process = 'a:p', name = 'n' }, ";
    let cases = [
        (
            "{ id = 'x', process = 'a:p', host = 'a:wasm' }".to_owned(),
            "'a:p'",
            "the host `a:wasm` does not run that",
        ),
        ("{ id = 'x', process = 'a:p', host = 'a:al' }".to_owned(), "'a:al'", "did you mean `a:all`?"),
        (format!("{both}{{ id = 'x', process = 'a:p' }}"), "'x'", "two children have the id `x`"),
        (
            format!("{both}{{ id = 'y', process = 'a:p', name = 'n' }}"),
            "'n'",
            "two processes have the name `n`",
        ),
        ("{ id = 'x', process = 'a:p', name = '{1' }".to_owned(), "'{1'", "as PIDs do"),
        ("{ id = 'x', process = 'a:p', shutdown = 'never' }".to_owned(), "'never'", "no duration"),
        ("{ id = 'x', process = 'a:p', restart = 'always' }".to_owned(), "'always'", "`transient`"),
        (
            "{ id = 'x', process = 'a:p', options = { network = 'a:n' } }".to_owned(),
            "'a:n'",
            "no networks are configured",
        ),
        (
            "{ id = 'x', process = 'a:p', options = { retry = 3 } }".to_owned(),
            "3",
            "a supervisor starts a process again",
        ),
        ("{ id = 'x' }".to_owned(), "{ id = 'x' }", "a child has no `process`"),
    ];
    for (members, place, what) in cases {
        let said = child(&members);
        let [(at, message)] = said.as_slice() else { panic!("{members}\n{said:#?}") };
        assert!(at == place && message.contains(what), "{members}\n{said:#?}");
    }
}

#[test]
fn what_a_dynamic_supervisor_starts_is_checked_as_a_child_is() {
    let template = |members: &str| wrong(&format!("{TREE}template = {{ {members} }}"));
    let cases = [
        ("process = 'a:q'", "'a:q'", "unknown process or supervisor `a:q`"),
        ("process = 'a:p', host = 'a:wasm'", "'a:p'", "the host `a:wasm` does not run that"),
        ("process = 'a:p', name = 'n'", "'n'", "a name is given to each child when it is started"),
        ("process = 'a:p', id = ''", "''", "a child has the empty id"),
        ("process = 'a:p', restart = 'always'", "'always'", "`transient`"),
        ("id = 'x'", "{ id = 'x' }", "no `process`"),
        ("process = 'a:p', retsart = 'temporary'", "retsart", "`restart`?"),
        ("process = 'a:top'", "'a:top'", "a:top > a:top"),
    ];
    for (members, place, what) in cases {
        let said = template(members);
        let [(at, message)] = said.as_slice() else { panic!("{members}\n{said:#?}") };
        assert!(at == place && message.contains(what), "{members}\n{said:#?}");
    }
}

#[test]
fn what_is_for_another_kind_of_supervisor_is_refused() {
    let cases = [
        ("template = { process = 'a:p' }\nchildren = []", "[]", "has no `children`"),
        ("template = { process = 'a:p' }\nstrategy = 'one_for_all'", "'one_for_all'", "has no `strategy`"),
        ("max_children = 5", "5", "`max_children` is for a supervisor with a `template`"),
        ("template = { process = 'a:p' }\nmax_children = 0", "0", "from 1 to"),
    ];
    for (settings, place, what) in cases {
        let said = wrong(&format!("{TREE}{settings}\n"));
        let [(at, message)] = said.as_slice() else { panic!("{settings}\n{said:#?}") };
        assert!(at == place && message.contains(what), "{settings}\n{said:#?}");
    }
}

#[test]
fn a_supervisor_that_is_started_by_another_is_not_started_with_the_app() {
    let manifest = good(&format!(
        "{TREE}template = {{ process = 'a:below', id = 'session' }}\n\
         [supervisors.'a:below']\nhost = 'a:all'\nchildren = [{{ id = 'x', process = 'a:p' }}]\n"
    ));
    let shown = Summary(&manifest, &BTreeMap::new(), &[]).to_string();
    assert!(shown.contains("a:top on a:all, dynamic, at most 3 restarts within 5s\n"), "{shown}");
    assert!(
        shown.contains(
            "  session: a:below on a:all, permanent, one_for_one, at most 3 restarts within 5s\n      \
             x: a:p on a:all, permanent"
        ),
        "{shown}"
    );
    assert!(!shown.contains("\na:below on"), "{shown}");
}

#[test]
fn a_summary_shows_the_beginning_of_a_long_list() {
    let rules: Vec<_> = (0..10_000).map(|number| format!("'h{number}.example'")).collect();
    let manifest = good(&format!("[app]\noptions = {{ egress = [{}] }}", rules.join(", ")));
    let summary = Summary(&manifest, &BTreeMap::new(), &[]);
    let shown = summary.to_string();
    assert!(shown.len() < 1000 && shown.contains("h9.example") && shown.contains('…'), "{shown}");
    assert_eq!(summary.to_json()["options"]["egress"].as_array().unwrap().len(), 10_000);
}

#[test]
fn supervisors_below_each_other_are_refused() {
    let said = wrong(&format!(
        "{TREE}children = [{{ id = 'x', process = 'a:b' }}]\n\
         [supervisors.'a:b']\nhost = 'a:all'\nchildren = [{{ id = 'x', process = 'a:top' }}]\n\
         [supervisors.'a:p']\nhost = 'a:all'\n"
    ));
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said[0].1.contains("a:b > a:top > a:b"), "{said:#?}");
    assert!(said[1].1.contains("both a process and a supervisor"), "{said:#?}");
}

#[test]
fn what_is_behind_a_mistake_in_the_syntax_is_not_missed() {
    let said = wrong("[supervisors.'a:s']\nhost = 'a:h'\nx y z\n[hosts.'a:h']\n");
    assert!(said.iter().all(|(_, what)| !what.contains("no host")), "{said:#?}");
}

#[test]
fn no_report_shows_a_secret() {
    let text = "[app]\nnaem = 1\n\
        [networks.'a:b']\nkind = 'sock5'\npassword = 'hünter2' # or hünter3\nkeys = ['hünter4', 31337]\n\
        # old: password = 'hünter5'\n\
        [networks.'a:c'] # hünter6\nproxy = 'hünter7'\n\
        [network.'a:d']\npassword = 'hünter8'\n\
        [telemetry]\notlp = 'http://u:hünter10@h/?t=hünter11'\nheaders = { a = 'hünter9' }\n\
        [http]\nheaders = { x-a = 'hünter12' } # hünter13\nheaders.x-b = 'hünter14'\nauthorization = 'hünter15'\n\
        # headers = { x-c = 'hünter16' }\n[http.headers] # hünter17\n# hünter18\n\
        x-d = [\n  { value = 'hünter19', hosts = [] },\n  { value = 'hünter20' },\n]\n\
        [http.headers.x-e]\nvalue = 'hünter21'\n";
    // The same, with a mistake in the syntax at each place in turn.
    let broken = (0..text.len())
        .filter(|&at| text.is_char_boundary(at))
        .map(|at| format!("{}\"\n{}", &text[..at], &text[at..]));
    for text in std::iter::once(text.to_owned()).chain(broken) {
        let problems = parse(&text).into_result().unwrap_err();
        for report in
            [problems.render(Look::Plain), problems.to_json().to_string(), format!("{problems}{problems:?}")]
        {
            assert!(!report.contains("ünter") && !report.contains("31337"), "{text}\n{report}");
        }
    }
}

#[test]
fn no_report_can_reorder_or_hide_its_text() {
    let hidden = "\u{ad}\u{202e}\u{2028}\u{e0041}";
    let problems = parse(&format!("[functions.'a:{hidden}']\n['{hidden}']\n")).into_result().unwrap_err();
    let report = problems.render(Look::Plain);
    assert!(report.contains("¿\u{fffd}\u{fffd}🛇"), "{report}");
    assert!(report.chars().all(|it| it == '\n' || is_printable(it)), "{report:?}");
}

#[test]
fn an_identity_changes_with_what_it_is_and_not_with_how_it_is_written() {
    let identity = |text: &str| good(text).functions[&"a:f".parse().unwrap()].identity.clone();
    let one =
        identity("[functions.'a:f']\nengine = 'lua'\nsource = 'greet.lua'\nlimits = { memory = '1MiB' }");
    let same = identity(
        "# A comment.\nfunctions.\"a:f\" = { source = 'greet.lua', engine = 'lua', limits = { memory = 1048576 } }",
    );
    let other =
        identity("[functions.'a:f']\nengine = 'lua'\nsource = 'greet.lua'\nlimits = { memory = '2MiB' }");
    assert_eq!(one, same);
    assert_ne!(one, other);

    let network = |text: &str| good(text).networks[&"a:b".parse().unwrap()].identity.clone();
    let one = network("[networks.'a:b']\nkind = 'direct'\ndeny = ['10.0.0.0/8']");
    assert_ne!(one, network("[networks.'a:b']\nkind = 'direct'\ndeny = ['11.0.0.0/8']"));
    assert!(!one.to_string().contains("10.0.0.0"), "{one}");
}

/// A reload reads the variables again, and makes anew what has another identity.
#[test]
fn an_identity_changes_with_the_value_of_a_variable() {
    let network = |proxy: &str| {
        let text = format!("[networks.'a:b']\nkind = 'socks5'\nproxy = '{proxy}'");
        good(&text).networks[&"a:b".parse().unwrap()].identity.clone()
    };
    // A variable that is set wherever tests run.
    let path = std::env::var("PATH").unwrap();
    assert_eq!(network("${PATH}"), network(&path));
    assert_ne!(network("${PATH}"), network("$${PATH}"));
    let http = |limit: &str| good(&format!("[http]\ntime_limit = '{limit}'")).http_identity;
    assert_eq!(http("1m"), http("1m"));
    assert_ne!(http("1m"), http("2m"));
}

#[test]
fn what_a_script_is_given_has_no_variables() {
    let manifest = good(
        "[hosts.'a:h']\n[processes]\n'a:p' = { engine = 'lua', source = 'ticker.lua' }\n\
         [supervisors.'a:s']\nhost = 'a:h'\n\
         children = [{ id = 'x', process = 'a:p', payload = { template = 'Dear ${NAME}' } }]\n",
    );
    let main = &manifest.supervisors[&"a:s".parse().unwrap()].value;
    assert_eq!(main.children[0].value.payload["template"], "Dear ${NAME}");
}

#[test]
fn a_script_is_pointed_at_where_lua_says() {
    let file = std::sync::Arc::new(SourceFile::new("a/b.lua", "local x = 1\n  local y = = 2\nif x then"));
    let at = |message: &str| {
        let problem = Problem::of_script(&file, message);
        (file.text[problem.span.clone()].to_owned(), problem.span.start, problem.message)
    };
    assert_eq!(
        at("a/b.lua:2: unexpected symbol near 'local'"),
        ("local".into(), 14, "unexpected symbol near 'local'".into())
    );
    // Which of the two is meant is not said.
    assert_eq!(at("a/b.lua:2: unexpected symbol near '='").0, "local y = = 2");
    assert_eq!(at("a/b.lua:3: 'end' expected near <eof>").1, file.text.len());
    assert_eq!(at("a/b.lua:99: what").1, 0);
    assert_eq!(at("what").2, "what");
}

/// Whatever is said can be shown, and points at text.
fn check(text: &str) -> Result<(), TestCaseError> {
    let Err(problems) = Manifest::parse("app.toml", text, std::path::Path::new("/nonexistent")).into_result()
    else {
        return Ok(());
    };
    prop_assert!(problems.count() > 0);
    for problem in &problems {
        prop_assert_eq!(problem.file.text.len(), text.len());
        prop_assert!(problem.file.text.get(problem.span.clone()).is_some(), "{:?}", problem.span);
        prop_assert!(problem.related.iter().all(|(span, _)| problem.file.text.get(span.clone()).is_some()));
    }
    let _ = (problems.render(Look::Plain), problems.render(Look::Terminal), problems.to_json());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check(&text)?;
    }

    /// The index says what counting says, and any places are drawn: in long lines, over several lines, at the end.
    #[test]
    fn any_places_are_found_and_drawn(
        text in "([a-z ü世\u{202e}\t]{0,300}\r?\n){0,12}[a-zü]{0,300}",
        places in proptest::collection::vec((0..5000_usize, 0..700_usize), 1..4),
    ) {
        let file = std::sync::Arc::new(SourceFile::new("a.toml", &*text));
        let mut places = places.into_iter().map(|(start, length)| {
            let start = text.floor_char_boundary(start % (text.len() + 1));
            start..text.ceil_char_boundary((start + length).min(text.len()))
        });
        let first = places.next().unwrap();
        let before = &text[..first.start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        prop_assert_eq!(file.position(first.start), (line, column));
        let problem = Problem::new(&file, first, "wrong");
        let problem = places.fold(problem, |problem, place| problem.with_related(place, "here"));
        let report = Problems::from(problem).render(Look::Plain);
        prop_assert!(!report.contains("Failed") && !report.contains('\u{202e}'), "{}", report);
        prop_assert!(text.is_empty() || report.contains(&format!("[a.toml:{line}:{column}]")), "{}", report);
        prop_assert!(report.lines().all(|line| line.chars().count() < 1000), "{}", report);
    }

    #[test]
    fn a_mutated_manifest_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..9, "[]\\[{}=.,'\"#\\\\ \n\r\u{0}a0-éü日🞯]{0,3}"), 1..6),
    ) {
        let mut text = example();
        for (at, length, new) in changes {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.ceil_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end, &new);
        }
        check(&text)?;
    }
}

/// Of the settings of networks the text that is shown has `*` only.
#[test]
fn the_place_of_a_member_is_known_with_its_key_whatever_is_hidden() {
    let manifest = good(
        "[app]\noptions = { trace = true }\n[networks.'a:b']\nkind = 'direct'\nallow = [\n'10.0.0.0/8',\n]\n\
         [functions.'a:f']\nengine = 'lua'\nsource = 'greet.lua'\n[limits]\nconnections = 5\n",
    );
    let text = |path: &[&str]| manifest.layout.whole(path).map(|span| &manifest.file.text[span]);
    assert_eq!(text(&["app", "options"]), Some("options = { trace = true }"));
    assert_eq!(text(&["app", "options", "trace"]), Some("trace = true"));
    assert_eq!(text(&["functions", "a:f", "source"]), Some("source = 'greet.lua'"));
    assert_eq!((text(&["app"]), text(&["limits"])), (Some("app"), Some("limits")));
    assert_eq!((text(&["app", "name"]), text(&["telemetry"])), (None, None));
}
