//! Random reloads and pauses of a run whose scripts trap and ignore what they can, fail at any time, take names from each other, own
//! others, and start and stop the children of a dynamic supervisor.
//!
//! | variable | |
//! |---|---|
//! | `FRAME_STRESS_SECONDS` | How long that goes on. Default: 8. |
//! | `FRAME_STRESS_SEED` | The seed. Default: 0. |

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::Value;

use crate::command;
use crate::run::{App, PATIENCE, Run, process};

/// Scripts by their names. What each does when it is told to end, and before that, is in the first line.
const SCRIPTS: [(&str, &str); 6] = [
    ("obeys", "repeat local message = process.receive() until message.kind == 'cancelled'"),
    (
        "slow",
        "repeat local message = process.receive() until message.kind == 'cancelled' process.receive(0.2)",
    ),
    ("ignores", "process.trap_links(true) while true do process.receive() end"),
    (
        "fails",
        "local message = process.receive(math.random() * 2)
         if message and message.kind == 'cancelled' then return end
         error('it had to be')",
    ),
    (
        "squats",
        "process.trap_links(true)
         while true do
           local name = 'n' .. math.random(0, 3)
           local has_it = pcall(process.register, name)
           local message = process.receive(math.random() / 4)
           if has_it then process.unregister(name) end
           if message and message.kind == 'cancelled' then return end
         end",
    ),
    (
        "asks",
        "local entries = { 'obeys', 'slow', 'ignores' }
         while true do
           local entry = 'app:' .. entries[math.random(3)]
           pcall(process.spawn, { host = 'app:workers', entry = entry, owned = true })
           local ok, pid, id = pcall(process.start_child, 'app:pool')
           local message = process.receive(math.random() / 4)
           if ok and math.random(2) == 1 then pcall(process.stop_child, 'app:pool', id) end
           if message and message.kind == 'cancelled' then return end
           if math.random(8) == 1 then error('it had to be') end
         end",
    ),
];

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// The children of a supervisor.
fn children(random: &mut Rng, supervisor: &str, count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let (script, _) = SCRIPTS[random.usize(..4)];
        let shutdown = ["at_once", "200ms", "1s"][random.usize(..3)];
        write!(
            text,
            "[[supervisors.\"app:{supervisor}\".children]]\nid = \"c{number}\"\nprocess = \"app:{script}\"\nshutdown = \"{shutdown}\"\n",
        )
        .expect("a string");
        if random.bool() {
            // No two have one.
            writeln!(text, "name = \"n{}\"", number + if supervisor == "main" { 0 } else { 2 })
                .expect("a string");
        }
    }
    text
}

/// A tree of the supervisors `app:main` and, below it, `app:inner`, beside those that take names or start others, if any.
fn manifest(random: &mut Rng, squatters: usize) -> String {
    let strategy = |random: &mut Rng| ["one_for_one", "one_for_all", "rest_for_one"][random.usize(..3)];
    let mut text = "[app]\nname = \"stress\"\n[hosts.\"app:workers\"]\nprocesses = 40\n".to_owned();
    text.extend(SCRIPTS.iter().map(|(name, _)| process(name)));
    for name in ["main", "inner", "other"] {
        writeln!(
            text,
            "[supervisors.\"app:{name}\"]\nhost = \"app:workers\"\nstrategy = \"{}\"\nrestarts = 100000\nbackoff = {{ first = \"10ms\", max = \"200ms\" }}",
            strategy(random)
        )
        .expect("a string");
        let count = if name == "other" { 0 } else { random.usize(1..3) };
        text += &children(random, name, count);
        if name == "main" {
            text += "[[supervisors.\"app:main\".children]]\nid = \"inner\"\nprocess = \"app:inner\"\n";
        }
    }
    if squatters > 0 {
        let (script, _) = SCRIPTS[random.usize(..4)];
        let (most, restart) =
            (random.usize(1..5), ["permanent", "transient", "temporary"][random.usize(..3)]);
        writeln!(
            text,
            "[[supervisors.\"app:other\".children]]\nid = \"asks\"\nprocess = \"app:asks\"\n\
             [supervisors.\"app:pool\"]\nhost = \"app:workers\"\nrestarts = 100000\nmax_children = {most}\n\
             [supervisors.\"app:pool\".template]\nprocess = \"app:{script}\"\nrestart = \"{restart}\""
        )
        .expect("a string");
    }
    for number in 0..squatters {
        writeln!(
            text,
            "[[supervisors.\"app:other\".children]]\nid = \"s{number}\"\nprocess = \"app:squats\""
        )
        .expect("a string");
    }
    text
}

/// A process that runs: its PID, its entry, and the PID of its owner.
type Shown = (String, String, Option<String>);

/// The processes that run. None where the program does not answer, as where it has ended.
fn processes(app: &App) -> Option<Vec<Shown>> {
    let manifest = app.path().join("app.toml").display().to_string();
    let output = command(&["ps", "--format", "json", &manifest]).output().expect("it was built");
    let running: Value = serde_json::from_slice(&output.stdout).ok()?;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let processes = running["processes"].as_array()?.iter();
    let processes = processes.filter(|process| process["state"] != "ending").map(|process| {
        let owner = process["owner"].as_str().map(str::to_owned);
        (text(&process["pid"]), text(&process["entry"]), owner)
    });
    Some(processes.collect())
}

/// Those whose owner does not run, and that are no supervisor at the top.
fn orphans(app: &App) -> BTreeSet<String> {
    let Some(all) = processes(app) else { return BTreeSet::new() };
    let pids: BTreeSet<_> = all.iter().map(|(pid, ..)| pid.clone()).collect();
    let is_orphan = |entry: &str, owner: Option<&String>| {
        !["app:main", "app:other", "app:pool"].contains(&entry)
            && !owner.is_some_and(|owner| pids.contains(owner))
    };
    all.iter()
        .filter(|(_, entry, owner)| is_orphan(entry, owner.as_ref()))
        .map(|(pid, ..)| pid.clone())
        .collect()
}

/// How the program ended by itself, if it has, which it may say only for one reason.
fn has_escalated(run: &mut Run) -> bool {
    let Some(status) = run.child.try_wait().expect("it is our child") else { return false };
    run.end();
    let is_said = run.has_said("the app was not put back after a reload that failed")
        || run.has_said("ended, and nobody starts it again");
    assert!(status.code() == Some(1) && is_said, "{status}:\n{}", run.said.join("\n"));
    true
}

#[test]
fn reloads_and_pauses_leave_no_orphans_and_a_tree_that_is_whole() {
    let budget = Duration::from_secs(number("FRAME_STRESS_SECONDS", 8));
    let seed = number("FRAME_STRESS_SEED", 0);
    println!("FRAME_STRESS_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let sources = SCRIPTS.map(|(name, source)| (format!("{name}.lua"), source));
    let sources: Vec<_> = sources.iter().map(|(name, source)| (name.as_str(), *source)).collect();
    let app = App::new(&manifest(&mut random, 2), &sources);
    let arguments = ["--grace", "300ms"];
    let mut run = app.run(&arguments);
    run.wait_for("ready");
    let (began, mut runs) = (Instant::now(), 1);
    while began.elapsed() < budget {
        match random.u8(..4) {
            0 => {
                run.signal(Signal::STOP);
                sleep(Duration::from_millis(random.u64(..1_500)));
                run.signal(Signal::CONT);
            }
            1 => sleep(Duration::from_millis(random.u64(..300))),
            _ => {
                let squatters = random.usize(..4);
                app.write("app.toml", &manifest(&mut random, squatters));
                run.signal(Signal::HUP);
            }
        }
        let mut left = orphans(&app);
        // What was started or ended while the list was made is in no second one.
        for _ in 0..3 {
            left = left.intersection(&orphans(&app)).cloned().collect();
        }
        assert!(left.is_empty(), "orphans: {left:?} of\n{:#?}\n{}", processes(&app), run.said.join("\n"));
        if has_escalated(&mut run) {
            run = app.run(&arguments);
            run.wait_for("ready");
            runs += 1;
        }
    }
    // Left alone, it becomes what its manifest says.
    let calm = manifest(&mut random, 0).replace("\"app:fails\"\nshutdown", "\"app:obeys\"\nshutdown");
    app.write("app.toml", &calm);
    let until = Instant::now() + PATIENCE;
    let count = |text: &str| calm.matches(text).count();
    let expected = count("process = \"app:") + ["app:main", "app:other"].len();
    for tried in 0.. {
        if processes(&app).is_some_and(|all| all.len() == expected) {
            break;
        }
        // A reload may be refused while a name is taken.
        if tried % 20 == 0 {
            run.signal(Signal::HUP);
        }
        if has_escalated(&mut run) {
            run = app.run(&arguments);
        }
        assert!(Instant::now() < until, "not whole: {:#?}\n{}", processes(&app), run.said.join("\n"));
        sleep(Duration::from_millis(100));
    }
    assert_eq!(orphans(&app), BTreeSet::new());
    run.signal(Signal::TERM);
    assert!(run.end().success(), "{}", run.said.join("\n"));
    println!("{runs} runs");
}
