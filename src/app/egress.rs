//! Rules of `egress` that can never match.

use std::ops::Range;

use frame_net::{EGRESS, EgressRule, FRAME_EGRESS, NetworkId, OVERLAY};
use frame_registry::{Frame, Options};

use crate::manifest::{Manifest, Problem};

/// Warns of rules that `options` add to what `parent` may reach, if they can never match: those that no rule of a list of the
/// parent's frame overlaps, and those for what the network of `frame` does not have. `path` is that of the options in the
/// manifest, and `span` what to point at where there is none.
///
/// The frames are those that the manifest makes. A function that is called from elsewhere may have further lists.
pub(super) fn dead_rules(
    manifest: &Manifest,
    parent: &Frame,
    frame: &Frame,
    options: &Options,
    (path, span): (&[&str], &Range<usize>),
) -> Vec<Problem> {
    let Some(egress) = options.get(&EGRESS) else { return Vec::new() };
    let lists = || parent.get(&FRAME_EGRESS).into_iter().flat_map(|egress| egress.lists());
    let network = options.get(&frame_net::NETWORK).and(frame.get(&OVERLAY));
    let reason = |rule: &EgressRule| {
        let refusing = lists().find(|list| !list.rules().iter().any(|outer| outer.overlaps(rule)));
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
    // A rule for `i2p` itself, or all below it, has names of I2P.
    let below: EgressRule = "*.i2p".parse().ok()?;
    let is_missing = is_i2p && !rule.overlaps(&below);
    is_missing.then(|| format!("the network `{network}` has names below `.i2p` only"))
}
