//! Making the supervisors that run be as a plan says, with as little as possible restarted.
//!
//! Children come and go through the handle of a supervisor, which also puts them in another order. What cannot be changed in one that
//! runs, its strategy or who its host is, is changed by restarting it, and so are the children of one that runs several times.
//!
//! A dynamic supervisor that runs is given its new specification, and goes on. Its children are restarted if they are not what it says.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use frame_dispatch::BoxFuture;
use frame_dispatch::process::EntryId;
use frame_dispatch::process::supervisor::{
    ChildInfo, ChildState, ControlError, Shutdown, SpecError, Strategy, SupervisorHandle,
};
use tokio::time::timeout;

use super::live::{Core, Live};
use super::plan::{self, Plan};
use super::supervise::{self, KILLED_WAIT};
use crate::manifest::{Child, Given, Problem, SupervisorSpec};
use crate::report;

/// Why what is restarted is told to end.
const REASON: &str = "the app is reloaded";

/// Starts, changes and stops supervisors until they are as `plan` says; gives what was restarted.
///
/// # Errors
///
/// The first that does not do what it is asked. What was done before that stays done.
pub(crate) async fn regroup(
    core: &Core,
    live: &mut Live,
    plan: &Plan,
    is_root_new: bool,
    grace: Duration,
) -> Result<Vec<String>, Problem> {
    if !live.is_supervised {
        return Ok(Vec::new());
    }
    let tops: BTreeMap<_, _> = plan.tops().collect();
    let is_top = |id: &EntryId| tops.contains_key(id);
    let stays = |id: &EntryId| is_top(id) && !is_root_new;
    let gone: Vec<_> = live.tops.keys().filter(|id| !stays(id)).cloned().collect();
    let mut restarted: Vec<_> = gone.iter().filter(|id| is_top(id)).map(ToString::to_string).collect();
    stop(core, live, gone, grace).await;

    let mut regroup = Regroup { live, plan, grace, restarted: Vec::new() };
    for id in tops.keys() {
        if regroup.live.tops.contains_key(id) && regroup.walk(id).await? == Verdict::Restart {
            regroup.restarted.push(id.to_string());
            stop(core, regroup.live, [(*id).clone()], grace).await;
        }
    }
    restarted.append(&mut regroup.restarted);
    for (id, given) in tops {
        if !live.tops.contains_key(id) {
            supervise::start(core, live, plan, (id, given)).await?;
        }
    }
    Ok(restarted)
}

/// Stops supervisors at the top, and says which were killed for that.
async fn stop(core: &Core, live: &mut Live, ids: impl IntoIterator<Item = EntryId>, grace: Duration) {
    for id in supervise::stop(core, live, ids, REASON, grace).await {
        tracing::warn!(
            supervisor = %id,
            "a supervisor was killed, with all that it supervises, because it had not ended after {grace:?}"
        );
    }
}

struct Regroup<'a> {
    live: &'a mut Live,
    plan: &'a Plan,
    grace: Duration,
    restarted: Vec<String>,
}

/// What a supervisor needs to be as the plan says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Restart,
}

impl Regroup<'_> {
    /// Does what can be done while the supervisor runs, for it and for those below it.
    fn walk<'b>(&'b mut self, id: &'b EntryId) -> BoxFuture<'b, Result<Verdict, Problem>> {
        Box::pin(async move {
            let Some(planned) = self.plan.supervisors.get(id) else { return Ok(Verdict::Nothing) };
            let Some(family) = self.live.supervisors.get(id) else { return Ok(Verdict::Restart) };
            let (Some(running), Some(handle)) = (family.running.clone(), family.handle()) else {
                return Ok(Verdict::Restart);
            };
            match (&running.dynamic, &planned.value.dynamic) {
                (None, None) => (),
                (Some(earlier), Some(template)) if running.host == planned.value.host => {
                    let is_other = earlier.template.identity != template.template.identity;
                    self.reconfigure(&handle, (id, planned), &template.template.value, is_other).await?;
                    return Ok(Verdict::Nothing);
                }
                _ => return Ok(Verdict::Restart),
            }
            let edits = Edits::between(&running, &planned.value);
            let can_go_on = edits.is_empty() || edits.can_be_made;
            if edits.has_other_rules || !can_go_on {
                return Ok(Verdict::Restart);
            }
            // One that is a child in two places has no handle of its own.
            let processes = handle.running();
            if processes.len() > 1 {
                if !edits.is_empty() {
                    return Ok(Verdict::Restart);
                }
                for pid in processes {
                    self.arrange(&handle.of(pid), id, &edits).await?;
                }
                return Ok(if self.is_replaced_below(id) { Verdict::Restart } else { Verdict::Nothing });
            }
            self.edit(&handle, id, &edits).await?;
            for child in edits.kept {
                self.update(&handle, id, child).await?;
            }
            Ok(Verdict::Nothing)
        })
    }

    /// Gives a dynamic supervisor its specification, and restarts its children if they are something else by now. It does not wait
    /// for them: what a script has started does not make a reload fail.
    async fn reconfigure(
        &mut self,
        handle: &SupervisorHandle,
        (id, planned): (&EntryId, &Given<SupervisorSpec>),
        template: &Child,
        is_other: bool,
    ) -> Result<(), Problem> {
        let Some(spec) = plan::dynamic(&planned.value) else { return Ok(()) };
        let are_old = is_other || self.is_changed(id, template);
        let running = self.live.supervisors.get(id).and_then(|family| family.running.as_ref());
        if !are_old && running.is_some_and(|running| Edits::between(running, &planned.value).is_nothing()) {
            return Ok(());
        }
        let mut restarted = 0;
        for pid in handle.running() {
            let handle = handle.of(pid);
            let reconfigured = handle.reconfigure(spec.clone()).await;
            reconfigured.map_err(|error| self.plan.problem(planned, report::chain(&error)))?;
            if are_old {
                let children = handle.restart_children().await;
                restarted += children.map_err(|error| self.plan.problem(planned, report::chain(&error)))?;
            }
        }
        if let Some(family) = self.live.supervisors.get_mut(id) {
            family.running = Some(planned.value.clone());
        }
        if are_old {
            supervise::mark_started(self.live, self.plan, id, template);
        }
        match restarted {
            0 => (),
            1 => self.restarted.push(format!("1 child of {id}")),
            count => self.restarted.push(format!("{count} children of {id}")),
        }
        Ok(())
    }

    /// Writes down what was done one by one, as that may have to be undone.
    async fn edit(
        &mut self,
        handle: &SupervisorHandle,
        id: &EntryId,
        edits: &Edits<'_>,
    ) -> Result<(), Problem> {
        for child in &edits.removed {
            match timeout(self.patience(&child.value), handle.remove(&child.value.id)).await {
                // It may have been temporary, and be done.
                Ok(Ok(()) | Err(ControlError::UnknownChild { .. })) => (),
                Ok(Err(error)) => return Err(self.failed(child, &error)),
                Err(_) => {
                    tracing::warn!(child = child.value.id, "a child that was removed has not ended yet");
                }
            }
            self.now_runs(id, |children| children.retain(|other| other.value.id != child.value.id));
        }
        for child in &edits.added {
            match handle.insert(plan::child(&child.value)).await {
                // Its supervisor was started again in the meantime, with all that is registered.
                Ok(_) | Err(ControlError::Spec { source: SpecError::DuplicateId { .. } }) => (),
                Err(error) => return Err(self.failed(child, &error)),
            }
            self.now_runs(id, |children| children.push((*child).clone()));
            supervise::mark_started(self.live, self.plan, id, &child.value);
        }
        self.arrange(handle, id, edits).await
    }

    /// Puts the children in the order in which they are started the next time.
    async fn arrange(
        &mut self,
        handle: &SupervisorHandle,
        id: &EntryId,
        edits: &Edits<'_>,
    ) -> Result<(), Problem> {
        let Some(planned) = self.plan.supervisors.get(id) else { return Ok(()) };
        if edits.are_moved {
            let ids = planned.value.children.iter().map(|child| child.value.id.as_str());
            let arranged = handle.arrange(ids).await;
            arranged.map_err(|error| self.plan.problem(planned, report::chain(&error)))?;
        }
        self.now_runs(id, |children| children.clone_from(&planned.value.children));
        Ok(())
    }

    /// Writes down which children a supervisor has now.
    fn now_runs(&mut self, id: &EntryId, change: impl FnOnce(&mut Vec<Given<Child>>)) {
        if let Some(running) = self.live.supervisors.get_mut(id).and_then(|family| family.running.as_mut()) {
            change(&mut running.children);
        }
    }

    fn failed(&self, child: &Given<Child>, error: &ControlError) -> Problem {
        self.plan.problem(child, report::chain(error))
    }

    /// Restarts a child where it is not what the plan says.
    async fn update(
        &mut self,
        handle: &SupervisorHandle,
        supervisor: &EntryId,
        child: &Given<Child>,
    ) -> Result<(), Problem> {
        let process = &child.value.process;
        let is_old = self.is_old(supervisor, &child.value) || self.walk(process).await? == Verdict::Restart;
        if !is_old {
            return Ok(());
        }
        let children = handle.children().await.map_err(|error| self.failed(child, &error))?;
        // One that is done stays so, and one that is gone was temporary.
        let runs = |info: &ChildInfo| info.id == child.value.id && info.state != ChildState::Done;
        if !children.iter().any(runs) {
            return Ok(());
        }
        // Whatever comes of it, it is not what it was.
        supervise::mark_started(self.live, self.plan, supervisor, &child.value);
        match timeout(self.patience(&child.value), handle.restart(&child.value.id)).await {
            Ok(Ok(_)) => (),
            Ok(Err(ControlError::UnknownChild { .. })) => return Ok(()),
            Ok(Err(error)) => return Err(self.failed(child, &error)),
            Err(_) => {
                tracing::warn!(
                    child = child.value.id,
                    "a child has not ended yet; it is restarted when it has"
                );
            }
        }
        self.restarted.push(format!("{} ({process})", child.value.id));
        Ok(())
    }

    /// How long the end of a child is waited for.
    fn patience(&self, child: &Child) -> Duration {
        let grace = match child.shutdown {
            Shutdown::Within(grace) => grace,
            Shutdown::AtOnce => Duration::ZERO,
            _ => self.grace,
        };
        grace.saturating_add(KILLED_WAIT)
    }

    /// Whether a process was started as something else than the plan says.
    fn is_old(&self, supervisor: &EntryId, child: &Child) -> bool {
        let started_as = self.live.started_as.get(&(supervisor.clone(), child.id.clone()));
        self.plan.processes.get(&child.process).is_some_and(|process| started_as != Some(&process.identity))
    }

    /// Whether anything below a supervisor is not what runs.
    fn is_replaced_below(&self, id: &EntryId) -> bool {
        let Some(planned) = self.plan.supervisors.get(id) else { return false };
        planned.value.all_children().any(|child| self.is_changed(id, &child.value))
    }

    /// Whether a child, or anything below it, is not what runs.
    fn is_changed(&self, supervisor: &EntryId, child: &Child) -> bool {
        let process = &child.process;
        let running = self.live.supervisors.get(process).and_then(|family| family.running.as_ref());
        let planned = self.plan.supervisors.get(process).map(|planned| &planned.value);
        let is_changed = match (running, planned) {
            (Some(running), Some(planned)) => !Edits::between(running, planned).is_nothing(),
            (running, planned) => running.is_some() != planned.is_some(),
        };
        is_changed || self.is_old(supervisor, child) || self.is_replaced_below(process)
    }
}

/// What is different between a supervisor that runs and the one that is planned.
struct Edits<'a> {
    /// Whether it is not only children.
    has_other_rules: bool,
    removed: Vec<&'a Given<Child>>,
    added: Vec<&'a Given<Child>>,
    kept: Vec<&'a Given<Child>>,
    /// Whether the children are in another order when those are removed and these added behind the others.
    are_moved: bool,
    /// Whether it would come to the same as starting the planned one: where children depend on those before them, what is added
    /// has to be behind all that stay.
    can_be_made: bool,
}

impl<'a> Edits<'a> {
    fn between(running: &'a SupervisorSpec, planned: &'a SupervisorSpec) -> Self {
        let rules = |spec: &SupervisorSpec| {
            let dynamic = spec
                .dynamic
                .as_ref()
                .map(|dynamic| (dynamic.template.identity.clone(), dynamic.max_children));
            (spec.host.clone(), spec.strategy, spec.intensity, spec.backoff, dynamic)
        };
        let identities = |children: &'a [Given<Child>]| -> HashSet<_> {
            children.iter().map(|child| &child.identity).collect()
        };
        let (run, are_planned) = (identities(&running.children), identities(&planned.children));
        let (kept, added): (Vec<_>, Vec<_>) =
            planned.children.iter().partition(|child| run.contains(&child.identity));
        let (stay, removed): (Vec<_>, Vec<_>) =
            running.children.iter().partition(|child| are_planned.contains(&child.identity));
        let ids = |children: &[&Given<Child>]| -> Vec<String> {
            children.iter().map(|child| child.value.id.clone()).collect()
        };
        let wanted = ids(&planned.children.iter().collect::<Vec<_>>());
        let is_ordered = running.strategy != Strategy::OneForOne;
        Self {
            has_other_rules: rules(running) != rules(planned),
            are_moved: [ids(&stay), ids(&added)].concat() != wanted,
            can_be_made: !is_ordered || [ids(&kept), ids(&added)].concat() == wanted,
            removed,
            added,
            kept,
        }
    }

    /// Whether the children are the same, in whatever order.
    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    fn is_nothing(&self) -> bool {
        self.is_empty() && !self.are_moved && !self.has_other_rules
    }
}

#[cfg(test)]
mod tests {
    use frame_dispatch::process::supervisor::{Backoff, Restart};
    use frame_registry::Options;
    use serde_json::{Value as Json, json};

    use super::*;

    fn child(id: &str, payload: i32) -> Given<Child> {
        let value = Child {
            id: id.to_owned(),
            process: "a:process".parse().unwrap(),
            host: "a:host".parse().unwrap(),
            name: None,
            payload: json!(payload),
            options: Options::new(),
            restart: Restart::Permanent,
            shutdown: Shutdown::default(),
        };
        Given { value, span: 0..0, identity: json!([id, payload]) }
    }

    fn supervisor(strategy: Strategy, children: &[(&str, i32)]) -> SupervisorSpec {
        SupervisorSpec {
            host: "a:host".parse().unwrap(),
            strategy,
            intensity: (3, Duration::from_secs(5)),
            backoff: Backoff::default(),
            children: children.iter().map(|(id, payload)| child(id, *payload)).collect(),
            dynamic: None,
        }
    }

    /// The ids of those removed, added and kept, and whether all can be made as it runs.
    fn edits(strategy: Strategy, from: &[(&str, i32)], to: &[(&str, i32)]) -> (Json, bool) {
        let (from, to) = (supervisor(strategy, from), supervisor(strategy, to));
        let edits = Edits::between(&from, &to);
        assert!(!edits.has_other_rules);
        let ids = |children: &[&Given<Child>]| {
            children.iter().map(|child| child.value.id.clone()).collect::<Vec<_>>()
        };
        (json!([ids(&edits.removed), ids(&edits.added), ids(&edits.kept)]), edits.can_be_made)
    }

    #[test]
    fn a_child_that_is_another_is_removed_and_added() {
        let (edits, can_be_made) =
            edits(Strategy::OneForOne, &[("a", 1), ("b", 1)], &[("a", 2), ("b", 1), ("c", 1)]);
        assert_eq!(edits, json!([["a"], ["a", "c"], ["b"]]));
        assert!(can_be_made);
    }

    #[test]
    fn where_the_order_counts_children_are_only_added_behind_the_others() {
        for strategy in [Strategy::RestForOne, Strategy::OneForAll] {
            assert!(edits(strategy, &[("a", 1), ("b", 1)], &[("a", 1), ("c", 1)]).1);
            assert!(edits(strategy, &[("a", 1), ("b", 1)], &[("b", 1), ("a", 1), ("c", 1)]).1);
            assert!(!edits(strategy, &[("a", 1), ("b", 1)], &[("a", 2), ("b", 1)]).1);
            assert!(!edits(strategy, &[("a", 1), ("b", 1)], &[("c", 1), ("b", 1), ("a", 1)]).1);
        }
        assert!(edits(Strategy::OneForOne, &[("a", 1), ("b", 1)], &[("c", 1), ("b", 1), ("a", 1)]).1);
    }

    #[test]
    fn children_in_another_order_are_moved_with_every_strategy() {
        for strategy in [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll] {
            let are_moved = |from: &[(&str, i32)], to: &[(&str, i32)]| {
                let (from, to) = (supervisor(strategy, from), supervisor(strategy, to));
                let edits = Edits::between(&from, &to);
                assert!(edits.can_be_made || strategy != Strategy::OneForOne);
                edits.are_moved
            };
            assert!(are_moved(&[("a", 1), ("b", 1)], &[("b", 1), ("a", 1)]));
            // Added after the others, and then moved to its former place.
            assert!(are_moved(&[("a", 1), ("b", 1)], &[("a", 2), ("b", 1)]));
            assert!(!are_moved(&[("a", 1), ("b", 1)], &[("b", 1), ("c", 1)]));
        }
    }

    #[test]
    fn another_strategy_is_another_supervisor() {
        let (one, other) = (supervisor(Strategy::OneForOne, &[]), supervisor(Strategy::OneForAll, &[]));
        assert!(Edits::between(&one, &other).has_other_rules);
        assert!(Edits::between(&one, &one).is_nothing());
    }
}
