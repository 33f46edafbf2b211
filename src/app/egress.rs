//! Rules of `egress` that can never match.

use std::ops::Range;

use frame_net::{EGRESS, Egress, EgressRule, NETWORK, NETWORK_KEY, NetworkId};
use frame_registry::{Frame, Options};

use crate::manifest::{Manifest, Problem};

/// Warns of rules that `options` add to what `outer` allows, if they can never match: those that no rule of one of its lists
/// overlaps, and those for what the network of `frame` does not have. `path` is that of the options in the manifest, and `span`
/// what to point at for rules that are not in the manifest.
///
/// The frames are those that the manifest makes. A function that is called from elsewhere may have further lists.
pub(super) fn dead_rules(
    manifest: &Manifest,
    outer: Option<&Egress>,
    frame: &Frame,
    options: &Options,
    (path, span): (&[&str], &Range<usize>),
) -> Vec<Problem> {
    let Some(egress) = options.get(&EGRESS) else { return Vec::new() };
    let network = options.get(&NETWORK).and(frame.get(&NETWORK_KEY));
    let reason = |rule: &EgressRule| {
        let mut lists = outer.into_iter().flat_map(Egress::lists);
        let refusing = lists.find(|list| !list.overlaps(rule));
        let narrowed =
            refusing.map(|list| format!("what it inherits is {list}, and each level only narrows"));
        narrowed.or_else(|| without_host(manifest, network?, rule))
    };
    let place = [path, &[EGRESS.name()]].concat();
    let rules = egress.lists().flat_map(|list| list.rules()).enumerate();
    let dead = rules.filter_map(|(index, rule)| {
        let why = reason(rule)?;
        let span = manifest.layout.element(&place, index).unwrap_or_else(|| span.clone());
        let problem =
            Problem::new(&manifest.file, span, format!("the rule `{rule}` of `egress` can never match"));
        Some(problem.with_help(format!("{why}; take the rule out")))
    });
    dead.collect()
}

/// Why `network` has no host that `rule` covers, if that is known of its kind.
fn without_host(manifest: &Manifest, network: &NetworkId, rule: &EgressRule) -> Option<String> {
    let is_i2p = manifest.networks.get(network).is_some_and(|network| network.value.kind() == "i2p");
    let below: EgressRule = "*.i2p".parse().ok()?;
    let is_missing = is_i2p && !rule.overlaps(&below);
    is_missing.then(|| format!("the network `{network}` has names below `.i2p` only"))
}
