//! Who decides, in every combination.

use frame_registry::{
    Frame, FrameBuilder, FrameResolvers, OptionError, Options, ResolveError, ResolveErrorKind,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::boot::install;
use crate::direct::Direct;
use crate::error::Missing;
use crate::network::Network;
use crate::registry::NetworkRegistry;

/// What one of those who may decide says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Nothing,
    Registered,
    Unregistered,
}

const ALL: [Says; 3] = [Says::Nothing, Says::Registered, Says::Unregistered];

impl Says {
    fn id(self, who: &str) -> Option<NetworkId> {
        match self {
            Self::Nothing => None,
            Self::Registered => Some(format!("registered:{who}").parse().unwrap()),
            Self::Unregistered => Some(format!("unregistered:{who}").parse().unwrap()),
        }
    }
}

fn app(default: Option<NetworkId>) -> App {
    let networks = NetworkRegistry::new(Arc::new(Direct::default()));
    for who in ["option", "parent", "default"] {
        for id in ALL.iter().filter_map(|says| says.id(who)) {
            networks.register(id, Arc::new(Direct::default())).unwrap();
        }
    }
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    install(&mut app, networks.clone(), default).unwrap();
    for who in ["option", "parent", "default"] {
        assert!(networks.unregister(&Says::Unregistered.id(who).unwrap()));
    }
    app.build()
}

fn app_without_networks(default: Option<NetworkId>) -> App {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    if let Some(id) = default {
        app.set(&DEFAULT, Arc::new(id)).unwrap();
    }
    app.build()
}

/// The child's network as the linked table decides it. `forks` says whether the child is a fork of the parent.
fn resolve(
    app: &App,
    options: &Options,
    parent: Option<&Frame>,
    forks: bool,
) -> Result<Option<NetworkId>, ResolveError> {
    let mut child = parent.filter(|_| forks).map_or_else(FrameBuilder::new, Frame::fork);
    app.resolvers().resolve(&ResolveContext::new(app, parent), options, child.pairs_mut())?;
    Ok(child.seal().get(&NETWORK_KEY).cloned())
}

fn options(network: Option<NetworkId>) -> Options {
    network.map_or_else(Options::new, |id| Options::new().with(&NETWORK, id))
}

fn not_found(error: &ResolveError) -> (&NetworkId, ChosenBy, Missing) {
    let ResolveErrorKind::Failed { resolver, source, .. } = error.kind() else { panic!("{error:?}") };
    assert_eq!(resolver, "overlay");
    match source.downcast_ref() {
        Some(NetworkError::NotFound { id, chosen_by, missing }) => (id, *chosen_by, *missing),
        _ => panic!("{source:?}"),
    }
}

#[test]
fn option_then_parent_then_default_then_clearnet() {
    let combinations = ALL.iter().flat_map(|&option| {
        ALL.iter().flat_map(move |&parent| ALL.iter().map(move |&default| (option, parent, default)))
    });
    for (option, parent, default) in combinations {
        for (has_networks, forks) in [(true, true), (true, false), (false, true), (false, false)] {
            let case = (option, parent, default, has_networks, forks);
            let default_id = default.id("default");
            let app = if has_networks { app(default_id) } else { app_without_networks(default_id) };
            let parent_frame = parent.id("parent").map(|id| Frame::from_iter([NETWORK_KEY.pair(id)]));

            let decides = [
                (option, "option", ChosenBy::Option),
                (parent, "parent", ChosenBy::ParentFrame),
                (default, "default", ChosenBy::AppDefault),
            ];
            let decides = decides.into_iter().find(|(says, ..)| *says != Says::Nothing);
            let resolved = resolve(&app, &options(option.id("option")), parent_frame.as_ref(), forks);
            match decides {
                None => assert_eq!(resolved.unwrap(), None, "{case:?}"),
                Some((Says::Registered, who, _)) if has_networks => {
                    assert_eq!(resolved.unwrap(), Says::Registered.id(who), "{case:?}");
                }
                Some((says, who, chosen_by)) => {
                    let missing = if has_networks { Missing::Network } else { Missing::Registry };
                    let error = resolved.expect_err(&format!("{case:?}"));
                    assert_eq!(not_found(&error), (&says.id(who).unwrap(), chosen_by, missing), "{case:?}");
                }
            }
        }
    }
}

#[test]
fn forks_inherit_deeply_and_a_childs_choice_does_not_touch_the_parent() {
    let app = app(None);
    let parent = Frame::from_iter([NETWORK_KEY.pair(Says::Registered.id("parent").unwrap())]);
    let grandchild = parent.fork().seal().fork().seal();
    assert_eq!(
        resolve(&app, &Options::new(), Some(&grandchild), true).unwrap(),
        Says::Registered.id("parent")
    );

    let choice = options(Says::Registered.id("option"));
    assert_eq!(resolve(&app, &choice, Some(&parent), true).unwrap(), Says::Registered.id("option"));
    assert_eq!(parent.get(&NETWORK_KEY), Says::Registered.id("parent").as_ref());
}

/// Networks `a:0` to `a:3`, of which so many are selectable.
fn app_of_four(selectable: [bool; 4], default: Option<u8>) -> App {
    let networks = NetworkRegistry::new(Arc::new(Direct::default()));
    for (number, is_selectable) in selectable.into_iter().enumerate() {
        let network: Arc<dyn Network> = Arc::new(Direct::default());
        let id = format!("a:{number}").parse().unwrap();
        let registered = if is_selectable {
            networks.register_selectable(id, network)
        } else {
            networks.register(id, network)
        };
        registered.unwrap();
    }
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    install(&mut app, networks, default.map(four)).unwrap();
    app.build()
}

fn four(number: u8) -> NetworkId {
    format!("a:{number}").parse().unwrap()
}

fn not_selectable(error: &ResolveError) -> (&NetworkId, &InsteadOf) {
    let ResolveErrorKind::Failed { source, .. } = error.kind() else { panic!("{error:?}") };
    match source.downcast_ref() {
        Some(error @ NetworkError::NotSelectable { id, instead_of }) => {
            assert!(!error.is_retryable());
            (id, instead_of)
        }
        _ => panic!("{source:?}"),
    }
}

#[test]
fn an_untrusted_choice_is_refused_in_words() {
    let script = options(Some(four(1))).untrusted();
    let preset = options(Some(four(2))).merged_under(&script);
    let parent = Frame::from_iter([NETWORK_KEY.pair(four(3))]);
    let text = |options: &Options, parent: Option<&Frame>| {
        let error = resolve(&app_of_four([false; 4], None), options, parent, true).unwrap_err();
        assert_eq!(not_selectable(&error).0, &four(1));
        std::error::Error::source(&error).unwrap().to_string()
    };
    let said = |from: &str| {
        format!(
            "scripts and components may not switch from {from} to `a:1`; remove the option `network`, or set \
             `selectable = true` on `a:1`"
        )
    };
    assert_eq!(text(&script, None), said("clearnet"));
    assert_eq!(text(&script, Some(&parent)), said("`a:3`"));
    assert_eq!(text(&preset, Some(&parent)), said("the network that is preset"));
}

#[test]
fn an_untrusted_choice_that_is_nowhere_is_not_found() {
    let app = app_of_four([true; 4], None);
    let absent: NetworkId = "a:absent".parse().unwrap();
    let error = resolve(&app, &options(Some(absent.clone())).untrusted(), None, true).unwrap_err();
    assert_eq!(not_found(&error), (&absent, ChosenBy::Option, Missing::Network));
}

#[test]
fn an_untrusted_empty_option_leaves_the_preset() {
    let empty = Options::from_untrusted_json(&serde_json::json!({ "network": "" })).unwrap();
    let options = options(Some(four(1))).merged_under(&empty);
    assert_eq!(resolve(&app_of_four([false; 4], None), &options, None, true).unwrap(), Some(four(1)));
}

/// Options of one who may choose: a network, and whether he is trusted.
fn given(choice: Option<(u8, bool)>) -> Options {
    match choice {
        None => Options::new(),
        Some((number, true)) => options(Some(four(number))),
        Some((number, false)) => options(Some(four(number))).untrusted(),
    }
}

proptest! {
    /// Precedence and permission, against what the documentation says in a few lines.
    #[test]
    fn a_frame_has_what_wins_where_whoever_chose_it_may(
        selectable: [bool; 4],
        preset in proptest::option::of((0..4_u8, any::<bool>())),
        call in proptest::option::of((0..4_u8, any::<bool>())),
        parent in proptest::option::of(0..4_u8),
        default in proptest::option::of(0..4_u8),
        forks: bool,
    ) {
        let app = app_of_four(selectable, default);
        let parent_frame = parent.map(|number| Frame::from_iter([NETWORK_KEY.pair(four(number))]));
        let merged = given(preset).merged_under(&given(call));
        let resolved = resolve(&app, &merged, parent_frame.as_ref(), forks);

        let without = parent.or(default);
        let chosen = call.or(preset);
        let replaces_trusted = call.is_some() && preset.is_some_and(|(_, is_trusted)| is_trusted);
        let may = |number: u8, is_trusted: bool| {
            is_trusted || selectable[usize::from(number)] || (!replaces_trusted && without == Some(number))
        };
        match chosen {
            Some((number, is_trusted)) if !may(number, is_trusted) => {
                let error = resolved.unwrap_err();
                let instead_of = match without {
                    _ if replaces_trusted => InsteadOf::Preset,
                    Some(without) => InsteadOf::Network(four(without)),
                    None => InsteadOf::Clearnet,
                };
                prop_assert_eq!(not_selectable(&error), (&four(number), &instead_of));
            }
            _ => {
                let expected = chosen.map(|(number, _)| number).or(without);
                prop_assert_eq!(resolved.unwrap(), expected.map(four));
            }
        }
    }
}

#[test]
fn anything_but_an_id_or_an_empty_string_is_refused() {
    for given in [json!(null), json!(3), json!(["app:tor"]), json!({}), json!(true), json!("tor"), json!(" ")]
    {
        let error = Options::from_json(&json!({ "network": given })).unwrap_err();
        assert!(matches!(error, OptionError::WrongType { option: "network", .. }), "{given}");
    }
    let error = Options::from_json(&json!({ "network": 3 })).unwrap_err();
    assert_eq!(error.to_string(), "option `network` has an invalid value, the number 3");
}
