//! `frame check`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{frame, json_of, stdout};

/// Where the manifests are that the tests read.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/check")
}

/// Checks a manifest from its directory, so that no report has the path of this one.
fn check(manifest: &str, format: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frame"));
    let arguments = ["check", manifest, "--format", format];
    command.current_dir(directory()).args(arguments).output().expect("it was built")
}

/// Compares with the text that is kept in a file, which `UPDATE=1` writes.
fn assert_is_kept(shown: &str, file: &str) {
    let path = directory().join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(shown == kept, "{file} is kept as:\n{kept}\nbut it is:\n{shown}");
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let output = check("wrong.toml", "table");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert_is_kept(&String::from_utf8(output.stderr).unwrap(), "wrong.stderr");
}

/// Settings of networks are read by their drivers.
#[test]
fn everything_wrong_with_networks_is_at_the_setting_that_it_is_about() {
    let output = Command::new(env!("CARGO_BIN_EXE_frame"))
        .current_dir(directory())
        .args(["check", "networks.toml"])
        .envs([("PROXY_PORT", "hunter2"), ("EMPTY", "")])
        .env_remove("NOT_SET")
        .output()
        .expect("it was built");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("hunter"), "{stderr}");
    assert_is_kept(&stderr, "networks.stderr");
}

#[test]
fn variables_are_replaced_in_settings() {
    let manifest = "[networks.'app:tor']\nkind = 'socks5'\nproxy = '${PROXY}'\n\
                    credentials = { username = 'a', password = 'x${PASSWORD}$${y}' }\n\
                    [clearnet]\nallow = ['${ALLOWED}:443']\n[http]\ntime_limit = '${LIMIT}'\n\
                    [telemetry]\notlp = 'http://${COLLECTOR}'\nheaders = { authorization = 'Bearer ${TOKEN}' }\n";
    let app = tempfile::tempdir().unwrap();
    std::fs::write(app.path().join("app.toml"), manifest).unwrap();
    let check = |proxy: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_frame"));
        command.current_dir(app.path()).arg("check").env("PROXY", proxy).envs([
            ("PASSWORD", "hunter2"),
            ("ALLOWED", "10.0.0.0/8"),
            ("LIMIT", "5s"),
            ("COLLECTOR", "localhost:4318"),
            ("TOKEN", "hunter3"),
        ]);
        command.output().expect("it was built")
    };
    let good = check("127.0.0.1:9050");
    assert!(good.status.success(), "{good:?}");
    // As it is written.
    assert!(String::from_utf8_lossy(&good.stdout).contains("traces to: http://${COLLECTOR}"), "{good:?}");
    let wrong = check("hunter4");
    let shown = format!("{wrong:?}");
    assert!(!wrong.status.success() && shown.contains("the port is missing"), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn the_same_is_reported_to_programs() {
    let output = check("wrong.toml", "json");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stderr.is_empty() && !String::from_utf8_lossy(&output.stdout).contains("hunter2"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = report["problems"].as_array().unwrap();
    let kind = problems.iter().find(|problem| problem["line"] == 7).unwrap();
    assert_eq!(
        *kind,
        json!({
            "file": "wrong.toml",
            "line": 7,
            "column": 8,
            "offset": 145,
            "length": 7,
            "text": "\"sock5\"",
            "message": "unknown kind of network `sock5`",
            "label": "did you mean `socks5`?",
            "help": "available kinds: `direct`, `http-connect`, `i2p`, `socks5`, `wireguard`",
            "related": [],
        })
    );
    // The script has a file of its own.
    let script = problems.iter().find(|problem| problem["file"] == "price.lua").unwrap();
    assert_eq!(script["line"], 3);
}

#[test]
fn a_good_manifest_says_what_would_run() {
    let output = check("good.toml", "table");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
    assert_is_kept(&String::from_utf8(output.stdout).unwrap(), "good.stdout");
}

#[test]
fn what_would_run_is_listed_for_programs() {
    let path = directory().join("good.toml");
    let list = json_of(&["check", path.to_str().unwrap(), "--format", "json"]);
    assert_eq!((&list["app"], &list["options"]), (&json!("shop"), &json!({ "timeout": "1m" })));
    assert_eq!(list["networks"], json!([{ "id": "app:tor", "kind": "socks5" }]));
    let greet = &list["functions"][0];
    assert_eq!((&greet["engine"], &greet["limits"]["memory"]), (&json!("lua"), &json!("8MiB")));
    assert_eq!(list["processes"][0]["limits"]["time"], "unlimited");
    let started: Vec<_> =
        list["supervisors"].as_array().unwrap().iter().map(|it| &it["is_started"]).collect();
    assert_eq!(started, [false, true]);
    assert!(!list.to_string().contains("hunter2"));
}

/// A manifest with a tunnel of this stack.
fn tunnel(stack: &str) -> String {
    format!(
        "[networks.'app:office']\nkind = 'wireguard'\nstack = '{stack}'\naddresses = ['10.8.0.2/24']\n\
         private_key = 'dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo='\npeers = [{{ allowed_ips = ['10.8.0.0/24'], \
         public_key = 'HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=' }}]\n"
    )
}

/// What `frame check` says of a tunnel, in both formats, which have to agree. `wrapper` is a command that runs it.
fn remark(stack: &str, wrapper: &[&str]) -> String {
    let app = tempfile::tempdir().unwrap();
    std::fs::write(app.path().join("app.toml"), tunnel(stack)).unwrap();
    let check = |format: &str| {
        let frame = [env!("CARGO_BIN_EXE_frame"), "check", "--format", format];
        let mut words = wrapper.iter().copied().chain(frame);
        let mut command = Command::new(words.next().unwrap());
        let output = command.args(words).current_dir(app.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let list: Value = serde_json::from_str(&check("json")).unwrap();
    let remark = list["networks"][0]["remark"].as_str().unwrap().to_owned();
    let table = check("table");
    assert!(table.lines().any(|line| line == format!("app:office: {remark}")), "{table}");
    remark
}

#[test]
fn a_tunnel_says_whose_tcp_it_uses() {
    const USER: &str = "TCP and UDP in user space";
    const KERNEL: &str = "the kernel's TCP and UDP, in a namespace of its own";
    assert_eq!(remark("user", &[]), USER);
    // It depends on the system, which this cannot choose.
    let found = remark("auto", &[]);
    assert!(found == KERNEL || found.starts_with(&format!("{USER}: ")), "{found}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_tunnel_says_why_it_does_not_use_the_kernels_tcp() {
    /// Runs a command where no further namespaces can be made.
    const WITHOUT_NAMESPACES: [&str; 6] =
        ["unshare", "-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"", "sh"];
    let [program, arguments @ ..] = WITHOUT_NAMESPACES;
    let tried = Command::new(program).args(arguments).arg("true").output();
    if !tried.as_ref().is_ok_and(|tried| tried.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "this test must not be skipped in CI: {tried:?}");
        eprintln!("SKIPPED: this needs `unshare` and user namespaces: {tried:?}");
        return;
    }
    let why = "TCP and UDP in user space: cannot create a user and network namespace: ";
    let found = remark("auto", &WITHOUT_NAMESPACES);
    assert!(found.starts_with(why), "{found}");
}

#[test]
fn a_stack_that_is_unknown_is_told_with_what_was_meant() {
    let problems = wrong(&tunnel("kernl"), &[]);
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(message(problem), "`stack`: unknown stack `kernl`; did you mean `kernel`?");
    assert_eq!(problem["line"], 3);
}

#[test]
fn a_manifest_that_is_not_there_is_a_problem_like_any() {
    let output = frame(&["check", "/nonexistent/app.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("/nonexistent/app.toml") && stderr.contains("cannot be read"), "{stderr}");
}

#[test]
fn the_help_says_what_is_checked() {
    assert!(stdout(&["check", "--help"]).contains("in all sections at once"));
}

/// Checks a manifest with these files beside it; gives what is wrong.
fn wrong(manifest: &str, files: &[(&str, &[u8])]) -> Vec<Value> {
    let app = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(app.path().join(name), bytes).unwrap();
    }
    std::fs::write(app.path().join("app.toml"), manifest).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_frame"));
    let arguments = ["check", "app.toml", "--format", "json"];
    let output = command.current_dir(app.path()).args(arguments).output().expect("it was built");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let Value::Array(problems) = report["problems"].take() else { panic!("{report}") };
    problems
}

fn message(problem: &Value) -> &str {
    problem["message"].as_str().expect("text")
}

#[test]
#[cfg(feature = "wasm")]
fn what_is_no_component_of_the_world_is_told_where_the_manifest_names_it() {
    let manifest =
        |source: &str| format!("[functions.\"app:resize\"]\nengine = \"wasm\"\nsource = \"{source}\"\n");
    // A component without `run`, a core module, and something else altogether.
    let component = frame_guests::text("(component)");
    let module = frame_guests::text("(module)");
    for (source, bytes, why) in [
        ("empty.wasm", &component[..], "it must export `run` as in the world `frame:function/function`"),
        (
            "module.wasm",
            &module[..],
            "it is a core module; make a component of it with `wasm-tools component new`",
        ),
        ("text.wasm", b"return 1", "not a WebAssembly component"),
    ] {
        let problems = wrong(&manifest(source), &[(source, bytes)]);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(message(problem).contains(why), "{problem}");
        assert_eq!((&problem["line"], &problem["column"]), (&json!(3), &json!(10)));
    }
}

#[test]
fn what_resolvers_and_drivers_would_refuse_is_told_before_anything_runs() {
    let manifest = "[networks.'app:tor']\nkind = 'socks5'\nproxy = 'nowhere'\n\n\
                    [functions.'app:f']\nengine = 'lua'\nsource = 'f.lua'\noptions = { fs_root = 'data' }\n";
    let problems = wrong(manifest, &[("f.lua", b"return 1")]);
    assert_eq!(problems.len(), 2, "{problems:?}");
    for (problem, part) in problems.iter().zip(["`proxy`: the port is missing", "`[fs] base = \"data\"`"]) {
        assert!(message(problem).contains(part), "{part}: {problem}");
    }
}

#[test]
fn what_a_network_that_could_not_be_read_is_named_in_is_not_wrong_as_well() {
    let manifest = "[app]\noptions = { network = 'app:tor' }\n\n[networks.'app:tor']\nkind = 'socks5'\n\
                    proxy = '${NOT_SET_ANYWHERE}'\n\n[networks.'app:far']\nkind = 'socks5'\nproxy = 'h:1'\n\
                    via = 'app:tor'\n";
    let problems = wrong(manifest, &[]);
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(message(problem).contains("`NOT_SET_ANYWHERE` is not set"), "{problem}");
}

/// What is read of files is wrong only when it is compiled.
#[test]
fn a_certificate_that_cannot_be_used_is_reported_at_its_setting() {
    let manifest = "[http]\nca_files = ['not.pem']\n";
    let problems = wrong(manifest, &[("not.pem", b"nothing")]);
    assert_eq!(
        (&problems[0]["line"], &problems[0]["text"]),
        (&json!(2), &json!("'not.pem'")),
        "{problems:?}"
    );
    let manifest = "[networks.'app:n']\nkind = 'socks5'\nproxy = 'h:1'\n\n[[http.tls]]\nnetworks = ['app:n']\n\
                    client_certificate = { certificate = 'not.pem', key = 'not.key' }\n";
    let problems = wrong(manifest, &[("not.pem", b"nothing")]);
    assert_eq!(
        (&problems[0]["line"], &problems[0]["text"]),
        (&json!(7), &json!("'not.pem'")),
        "{problems:?}"
    );
}

/// Rules of `egress` that no list above them overlaps, or whose names the network does not have.
#[test]
fn rules_that_can_never_match_are_warnings() {
    let output = check("egress.toml", "table");
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("app: check"));
    assert_is_kept(&String::from_utf8(output.stderr).unwrap(), "egress.stderr");

    let output = check("egress.toml", "json");
    assert!(output.status.success() && output.stderr.is_empty());
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let warnings = json["warnings"].as_array().unwrap();
    let texts: Vec<_> = warnings.iter().map(|warning| warning["text"].as_str().unwrap()).collect();
    let rules = [
        "\"b.other\"",
        "[[supervisors.\"app:top\".children]]",
        "\"a.example\"",
        "\"10.0.0.0/8\"",
        "\"10.0.0.0/8:80\"",
    ];
    assert_eq!(texts, rules);
}

#[test]
fn rules_of_egress_are_checked_where_they_are_written() {
    for (rule, says) in [
        ("*", "would allow every name"),
        ("*.", "has a `*` in the wrong place"),
        ("**", "has a `*` in the wrong place"),
        ("10.0.0.0/33", "has no number from 0 to 32"),
        ("10.1.2.3/8", "write `10.0.0.0/8`"),
        ("a.example:0", "has no port from 1 to 65535"),
        ("a.example:70000", "has no port from 1 to 65535"),
        ("0x7f.1", "cannot end in a number"),
        ("fe80::1%eth0", "has a zone"),
        ("https://a.example/", "is a host and not a URL"),
    ] {
        let manifest = format!("[app]\noptions = {{ egress = [\"a.example\", \"{rule}\"] }}\n");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("app.toml"), manifest).unwrap();
        let output = frame(&["check", directory.path().join("app.toml").to_str().unwrap()]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let unwrapped = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(unwrapped.contains(says), "{rule}: {stderr}");
        let output =
            frame(&["check", directory.path().join("app.toml").to_str().unwrap(), "--format", "json"]);
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            json["problems"][0]["text"],
            format!("\"{rule}\""),
            "the rule itself is pointed at: {json}"
        );
    }
}

#[test]
fn an_address_that_seems_to_have_a_port_is_a_warning_that_says_what_to_write() {
    let warnings = |rule: &str| {
        let manifest = format!("[app]\noptions = {{ egress = [\"a.example\", \"{rule}\"] }}\n");
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("app.toml"), manifest).unwrap();
        let output =
            frame(&["check", directory.path().join("app.toml").to_str().unwrap(), "--format", "json"]);
        assert!(output.status.success());
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        json["warnings"].as_array().unwrap().clone()
    };
    let [warning] = &warnings("::1:443")[..] else { panic!("not one warning") };
    assert_eq!(warning["text"], "\"::1:443\"");
    assert_eq!(warning["help"], "for a port write `[::1]:443`; for the address write `[::1:443]`");
    for rule in ["[::1:443]", "[::1]:443", "::1", "2001:db8::a:b", "2001:db8::/32", "::ffff:10.0.0.1"] {
        assert!(warnings(rule).is_empty(), "{rule}");
    }
}

/// What `frame check` says of a manifest beside `greet.lua`.
fn refusal(manifest: &str) -> String {
    let app = tempfile::tempdir().unwrap();
    std::fs::write(app.path().join("app.toml"), manifest).unwrap();
    std::fs::write(app.path().join("greet.lua"), "return 1").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_frame"));
    let output = command.current_dir(app.path()).args(["check"]).output().expect("it was built");
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_syntax_error_shows_its_line() {
    let shown =
        refusal("[app]\nname = \"x\"\n[functions.\"app:greet\"\nengine = \"lua\"\nsource = \"greet.lua\"\n");
    assert!(shown.contains("3 | [functions.\"app:greet\"\n"), "{shown}");
    assert!(shown.contains("4 | engine = \"lua\"\n"), "{shown}");
    assert!(shown.ends_with("\n1 problem\n"), "{shown}");

    let shown = refusal("name =\n[app]\nname = \"x\"\n");
    assert!(shown.contains("1 | name =\n"), "{shown}");
}

#[test]
fn a_syntax_error_shows_no_value_of_a_secret() {
    for section in ["[networks.\"a:b\"", "[secrets.\"a:b\"", "[telemetry", "[http", "[nets"] {
        let shown = refusal(&format!("{section}\npassword = \"hunter2\"\nkey =\n\"hunter3\"\n"));
        assert!(!shown.contains("hunter"), "{shown}");
    }
    let shown = refusal("[secrets.\"a:b\"]\nkey = \"\"\"\nhunter\nhunte= \n");
    assert!(!shown.contains("hunte"), "{shown}");
}

#[test]
fn an_id_without_quotes_is_one_problem() {
    let shown = refusal("[functions.app.greet]\nengine = \"lua\"\nsource = \"greet.lua\"\n");
    assert!(shown.contains("write the id in quotes, with a colon: `\"app:greet\"`"), "{shown}");
    assert!(shown.ends_with("\n1 problem\n"), "{shown}");
}

#[test]
fn a_host_without_room_for_its_supervisors_and_children_is_a_problem() {
    let manifest = |processes: u32| {
        format!(
            "[hosts.\"a:w\"]\nprocesses = {processes}\n[processes.\"a:p\"]\nengine = \"lua\"\nsource = \"greet.lua\"\n\
             [supervisors.\"a:main\"]\nhost = \"a:w\"\n\
             [[supervisors.\"a:main\".children]]\nid = \"one\"\nprocess = \"a:p\"\n\
             [[supervisors.\"a:main\".children]]\nid = \"below\"\nprocess = \"a:below\"\n\
             [supervisors.\"a:below\"]\nhost = \"a:w\"\n\
             [[supervisors.\"a:below\".children]]\nid = \"two\"\nprocess = \"a:p\"\n"
        )
    };
    let shown = refusal(&manifest(3));
    let what = "host `a:w` has room for 3 processes, but its supervisors and their children are 4";
    assert!(shown.contains(what) && shown.contains("set `processes` to 4 or more"), "{shown}");
    assert!(shown.ends_with("\n1 problem\n"), "{shown}");

    let app = tempfile::tempdir().unwrap();
    std::fs::write(app.path().join("app.toml"), manifest(4)).unwrap();
    std::fs::write(app.path().join("greet.lua"), "return 1").unwrap();
    stdout(&["check", app.path().join("app.toml").to_str().unwrap()]);
}
