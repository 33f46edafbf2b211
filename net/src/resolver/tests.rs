//! Who decides, in every combination.

use frame_registry::{Frame, FrameBuilder, FrameResolvers, ResolveError};

use super::*;
use crate::boot::install;
use crate::direct::Direct;
use crate::error::Missing;
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
    app.resolvers().resolve(&Context::new(app, parent), options, child.pairs_mut())?;
    Ok(child.seal().get(&OVERLAY).cloned())
}

fn options(network: Option<NetworkId>) -> Options {
    network.map_or_else(Options::new, |id| Options::new().with(&NETWORK, id))
}

fn not_found(error: &ResolveError) -> (&NetworkId, ChosenBy, Missing) {
    let ResolveError::Failed { resolver, source, .. } = error else { panic!("{error:?}") };
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
            let parent_frame = parent.id("parent").map(|id| Frame::from_iter([OVERLAY.pair(id)]));

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
    let parent = Frame::from_iter([OVERLAY.pair(Says::Registered.id("parent").unwrap())]);
    let grandchild = parent.fork().seal().fork().seal();
    assert_eq!(
        resolve(&app, &Options::new(), Some(&grandchild), true).unwrap(),
        Says::Registered.id("parent")
    );

    let choice = options(Says::Registered.id("option"));
    assert_eq!(resolve(&app, &choice, Some(&parent), true).unwrap(), Says::Registered.id("option"));
    assert_eq!(parent.get(&OVERLAY), Says::Registered.id("parent").as_ref());
}

#[test]
#[allow(deprecated)]
fn the_old_entry_point_decides_the_same() {
    static OTHER: frame_registry::Key<&str> = frame_registry::Key::new("other");
    let app = app(Says::Registered.id("default"));
    let mut pairs = Pairs::from_iter([OTHER.pair("kept")]);
    apply_overlay_pair(&Context::new(&app, None), &Options::new(), &mut pairs).unwrap();
    assert_eq!(pairs.get(&OVERLAY), Says::Registered.id("default").as_ref());
    assert_eq!(pairs.get(&OTHER), Some(&"kept"));
}
