//! Processes against a simple model of them: random histories of links, monitors, names, messages and ends.

mod model;
mod operation;
mod puppet;
mod threads;
mod watchdog;
mod world;

use proptest::test_runner::{Config, TestRunner};

use crate::watchdog::Watchdog;
use crate::world::World;

/// How many histories, unless `PROPTEST_CASES` says.
const HISTORIES: u32 = 3_000;

#[test]
fn processes_do_what_the_model_does() {
    watchdog::silence_panics_on_command();
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = HISTORIES;
    }
    let watchdog = Watchdog::new();
    let histories = proptest::collection::vec(operation::operation(), 1..=40);
    let outcome = TestRunner::new(config).run(&histories, |history| {
        watchdog.watch(format!("{history:#?}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async { World::new().run(&history).await });
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
