//! Random histories of a supervisor, against a model that is a list.

use std::time::Duration;

use frame_dispatch::process::supervisor::{ChildState, Restart, Strategy};
use proptest::prelude::{Just, ProptestConfig, Strategy as Generator, prop, prop_oneof, proptest};

use crate::support::{BOUND, Field, Top, often, settle, spec, supervisor, within};

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A child, of those there are, ends so.
    End(usize, &'static str),
    Restart(usize),
    Remove(usize),
    Add(Restart),
}

fn restart() -> impl Generator<Value = Restart> {
    prop_oneof![Just(Restart::Permanent), Just(Restart::Transient), Just(Restart::Temporary)]
}

fn step() -> impl Generator<Value = Step> {
    let how = prop_oneof![Just("done"), Just("obey"), Just("fail"), Just("panic")];
    prop_oneof![
        6 => (0_usize..8, how).prop_map(|(child, how)| Step::End(child, how)),
        1 => (0_usize..8).prop_map(Step::Restart),
        1 => (0_usize..8).prop_map(Step::Remove),
        1 => restart().prop_map(Step::Add),
    ]
}

#[derive(Debug, Clone)]
struct Child {
    id: String,
    restart: Restart,
    is_up: bool,
    starts: u64,
}

impl Child {
    fn new(number: usize, restart: Restart) -> Self {
        Self { id: format!("c{number}"), restart, is_up: true, starts: 1 }
    }
}

struct Model {
    strategy: Strategy,
    allowed: usize,
    failures: usize,
    children: Vec<Child>,
    /// What the children are expected to say.
    said: Vec<String>,
    added: usize,
}

impl Model {
    fn end(&mut self, index: usize, how: &str) {
        let is_failure = matches!(how, "fail" | "panic");
        let child = &mut self.children[index];
        self.said.push(format!("!{}", child.id));
        child.is_up = false;
        match child.restart {
            Restart::Temporary => _ = self.children.remove(index),
            Restart::Transient if !is_failure => (),
            _ => self.fail(index),
        }
    }

    fn fail(&mut self, index: usize) {
        self.failures += 1;
        let affected = match self.strategy {
            _ if self.has_given_up() => 0..self.children.len(),
            Strategy::OneForOne => index..index + 1,
            Strategy::OneForAll => 0..self.children.len(),
            Strategy::RestForOne => index..self.children.len(),
            other => panic!("{other:?}"),
        };
        for child in self.children[affected.clone()].iter_mut().rev().filter(|child| child.is_up) {
            self.said.push(format!("-{}", child.id));
        }
        if self.has_given_up() {
            return;
        }
        for (index, child) in self.children.iter_mut().enumerate() {
            if !affected.contains(&index) || child.restart == Restart::Temporary {
                continue;
            }
            self.said.push(format!("+{}", child.id));
            child.is_up = true;
            child.starts += 1;
        }
        let mut index = 0;
        self.children.retain(|child| {
            let is_gone = affected.contains(&index) && child.restart == Restart::Temporary;
            index += 1;
            !is_gone
        });
    }

    fn has_given_up(&self) -> bool {
        self.failures > self.allowed
    }

    /// Does a step to both.
    async fn step(&mut self, field: &Field, top: &Top, step: Step) {
        let index = |child: usize| (!self.children.is_empty()).then(|| child % self.children.len());
        match step {
            Step::End(child, how) => {
                let Some(index) = index(child).filter(|&index| self.children[index].is_up) else { return };
                field.tell(top.pid_of(&self.children[index].id).await, how);
                self.end(index, how);
            }
            Step::Restart(child) => {
                let Some(index) = index(child) else { return };
                let child = &mut self.children[index];
                within("the test for a restart", top.handle.restart(&child.id)).await.unwrap();
                self.said.extend(child.is_up.then(|| format!("-{}", child.id)));
                self.said.push(format!("+{}", child.id));
                child.is_up = true;
                child.starts += 1;
            }
            Step::Remove(child) => {
                let Some(index) = index(child) else { return };
                let child = self.children.remove(index);
                within("the test for a removal", top.handle.remove(&child.id)).await.unwrap();
                self.said.extend(child.is_up.then(|| format!("-{}", child.id)));
            }
            Step::Add(restart) => {
                let child = Child::new(self.added, restart);
                self.added += 1;
                let added = top.handle.add(&field.root, spec(&child.id).with_restart(restart));
                within("the test for a child", added).await.unwrap();
                self.said.push(format!("+{}", child.id));
                self.children.push(child);
            }
        }
    }

    fn expected(&self) -> Vec<(String, ChildState, u64)> {
        let state = |child: &Child| if child.is_up { ChildState::Running } else { ChildState::Done };
        self.children.iter().map(|child| (child.id.clone(), state(child), child.starts - 1)).collect()
    }
}

async fn history(strategy: Strategy, kinds: Vec<Restart>, allowed: usize, steps: Vec<Step>) {
    let children: Vec<_> = kinds.into_iter().enumerate().map(|(n, kind)| Child::new(n, kind)).collect();
    let mut field = Field::new();
    let mut all = supervisor(strategy, [])
        .restart_policy(often().with_intensity(u32::try_from(allowed).unwrap(), Duration::from_hours(1)));
    for child in &children {
        all = all.child(spec(&child.id).with_restart(child.restart));
    }
    let said = children.iter().map(|child| format!("+{}", child.id)).collect();
    let added = children.len();
    let mut model = Model { strategy, allowed, failures: 0, children, said, added };
    let top = field.up(all).await;
    assert_eq!(field.said().await, model.said.join(" "));
    model.said.clear();
    for step in steps {
        model.step(&field, &top, step).await;
        assert_eq!(field.said().await, model.said.join(" "), "{step:?}");
        model.said.clear();
        if model.has_given_up() {
            let exit = top.exit().await;
            assert!(exit.reason.to_string().contains("gave up"), "{exit:?}");
            return field.gone().await;
        }
        assert_eq!(top.shown().await, model.expected(), "{step:?}");
    }
    field.processes.cancel(top.pid, "a test", BOUND).unwrap();
    assert!(top.exit().await.reason.is_normal());
    let up = model.children.iter().rev().filter(|child| child.is_up);
    assert_eq!(field.said().await, up.map(|child| format!("-{}", child.id)).collect::<Vec<_>>().join(" "));
    settle().await;
    field.gone().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_supervisor_does_what_the_model_says(
        strategy in prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)],
        kinds in prop::collection::vec(restart(), 0..6),
        allowed in 0_usize..12,
        steps in prop::collection::vec(step(), 0..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(history(strategy, kinds, allowed, steps));
    }
}
