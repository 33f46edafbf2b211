//! What changes of the registry do, and when what they take away is closed.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::direct::Direct;
use crate::driver::{ConfigError, Driver};
use crate::endpoint::Endpoint;
use crate::error::{Cause, DriverError};
use crate::isolation::IsolationKey;
use crate::network::{BoxFuture, BoxStream};

fn id(text: &str) -> NetworkId {
    text.parse().unwrap()
}

fn networks() -> NetworkRegistry {
    NetworkRegistry::new(Arc::new(Direct::default()))
}

/// Says on drop whether the registry can be written to.
struct WritesWhenDropped(NetworkRegistry, Arc<AtomicBool>);

impl Network for WritesWhenDropped {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn connect<'a>(
        &'a self,
        _: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        unreachable!("nobody dials")
    }
}

impl Drop for WritesWhenDropped {
    fn drop(&mut self) {
        self.0.unregister(&id("a:other"));
        self.1.store(true, Ordering::Relaxed);
    }
}

#[test]
fn an_id_is_registered_once() {
    let networks = networks();
    networks.register(id("a:b"), Arc::new(Direct::default())).unwrap();
    let again = networks.register(id("a:b"), Arc::new(Direct::default()));
    assert!(matches!(again, Err(NetworkError::AlreadyRegistered { id }) if id.as_str() == "a:b"));
    assert_eq!(networks.ids(), [id("a:b")]);
    assert_eq!(networks.kind(&id("a:b")), Some("direct"));
}

#[test]
fn what_is_absent_is_not_replaced_and_unregistering_it_does_nothing() {
    let networks = networks();
    let replaced = networks.replace(&id("a:b"), Arc::new(Direct::default()));
    assert!(matches!(replaced, Err(NetworkError::NotRegistered { .. })));
    assert!(!networks.unregister(&id("a:b")));
    assert!(!networks.contains(&id("a:b")));
}

#[test]
fn the_old_network_is_closed_outside_the_lock_once_its_last_user_is_done() {
    let networks = networks();
    let dropped = Arc::new(AtomicBool::new(false));
    let old = Arc::new(WritesWhenDropped(networks.clone(), Arc::clone(&dropped)));
    networks.register(id("a:b"), old).unwrap();

    let user = networks.get(&id("a:b")).unwrap();
    assert!(!user.retired.is_cancelled());
    networks.replace(&id("a:b"), Arc::new(Direct::default())).unwrap();
    assert_eq!((user.kind(), networks.kind(&id("a:b"))), ("test", Some("direct")));
    assert!(user.retired.is_cancelled());
    assert!(!dropped.load(Ordering::Relaxed), "it has a user");
    drop(user);
    assert!(dropped.load(Ordering::Relaxed));
}

#[test]
fn a_network_that_is_not_taken_is_closed_outside_the_lock() {
    let networks = networks();
    networks.register(id("a:b"), Arc::new(Direct::default())).unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let refused = Arc::new(WritesWhenDropped(networks.clone(), Arc::clone(&dropped)));
    networks.register(id("a:b"), refused).unwrap_err();
    assert!(dropped.swap(false, Ordering::Relaxed));

    let refused = Arc::new(WritesWhenDropped(networks.clone(), Arc::clone(&dropped)));
    networks.replace(&id("a:absent"), refused).unwrap_err();
    assert!(dropped.load(Ordering::Relaxed));
}

/// A SOCKS5 network, via another if one is given.
fn config(via: Option<&str>) -> NetworkConfig {
    serde_json::from_value(json!({ "kind": "socks5", "proxy": "127.0.0.1:1", "via": via })).unwrap()
}

#[test]
fn a_network_that_cannot_be_made_changes_nothing() {
    let networks = networks();
    let wrong: NetworkConfig = serde_json::from_value(json!({ "kind": "socks5" })).unwrap();
    networks.create(id("a:b"), &wrong).unwrap_err();
    assert_eq!(networks.ids(), []);

    networks.create(id("a:b"), &config(None)).unwrap();
    let old = networks.get(&id("a:b")).unwrap();
    let error = networks.update(&id("a:b"), &wrong).unwrap_err();
    assert!(matches!(error, NetworkError::Config { .. }) && !error.is_retryable());
    assert!(Arc::ptr_eq(&old, &networks.get(&id("a:b")).unwrap()));
    networks.update(&id("a:b"), &config(None)).unwrap();
    assert!(old.retired.is_cancelled());

    let absent = networks.update(&id("a:absent"), &config(None));
    assert!(matches!(absent, Err(NetworkError::NotRegistered { .. })));
}

#[test]
fn a_network_goes_only_through_one_that_is_registered() {
    let networks = networks();
    let error = networks.create(id("a:b"), &config(Some("a:c"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "network `a:b` goes via `a:c`, which is not registered; register that one first"
    );
    assert_eq!(networks.ids(), []);
}

#[test]
fn no_network_goes_through_itself() {
    let networks = networks();
    networks.create(id("a:b"), &config(None)).unwrap();
    networks.create(id("a:c"), &config(Some("a:b"))).unwrap();
    networks.create(id("a:d"), &config(Some("a:c"))).unwrap();
    let error = networks.update(&id("a:b"), &config(Some("a:d"))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "network `a:b` would go through itself: `a:b` via `a:d` via `a:c` via `a:b`"
    );
    let error = networks.create(id("a:e"), &config(Some("a:e"))).unwrap_err();
    assert!(matches!(error, NetworkError::ViaCycle { .. }), "{error}");
    networks.update(&id("a:b"), &config(None)).unwrap();
}

#[test]
fn what_goes_through_a_network_that_changes_is_retired_with_it() {
    let networks = networks();
    for (network, via) in [("a:0", None), ("a:1", Some("a:0")), ("a:2", Some("a:1")), ("a:3", None)] {
        networks.create(id(network), &config(via)).unwrap();
    }
    let registered = || ["a:0", "a:1", "a:2", "a:3"].map(|network| networks.get(&id(network)));
    let retired = |registered: &[Option<Arc<Registered>>; 4]| {
        registered.each_ref().map(|registered| registered.as_ref().map(|it| it.retired.is_cancelled()))
    };
    let before = registered();
    networks.update(&id("a:1"), &config(Some("a:0"))).unwrap();
    assert_eq!(retired(&before), [Some(false), Some(true), Some(true), Some(false)]);
    let before = registered();
    assert_eq!(retired(&before), [Some(false); 4]);
    assert!(networks.unregister(&id("a:0")));
    assert_eq!(retired(&before), [Some(true), Some(true), Some(true), Some(false)]);
    assert_eq!(retired(&registered()), [None, Some(false), Some(false), Some(false)]);
}

/// A network that is selectable, or not.
fn selectable(is_selectable: bool) -> NetworkConfig {
    config(None).with_selectable(is_selectable)
}

#[test]
fn what_is_selectable_is_so_by_its_own_registration() {
    let networks = networks();
    let a = id("a:b");
    assert!(!networks.is_selectable(&a), "what is not there is not");
    networks.create(a.clone(), &selectable(true)).unwrap();
    assert!(networks.is_selectable(&a));
    networks.update(&a, &selectable(false)).unwrap();
    assert!(!networks.is_selectable(&a));
    networks.update(&a, &selectable(true)).unwrap();
    networks.update(&a, &serde_json::from_value(json!({ "kind": "socks5" })).unwrap()).unwrap_err();
    assert!(networks.is_selectable(&a), "an update that fails changes nothing");

    networks.replace(&a, Arc::new(Direct::default())).unwrap();
    assert!(!networks.is_selectable(&a), "a network that is put in its place is another");
    assert!(networks.unregister(&a));
    networks.register(a.clone(), Arc::new(Direct::default())).unwrap();
    assert!(!networks.is_selectable(&a));
    networks.register_selectable(id("a:c"), Arc::new(Direct::default())).unwrap();
    assert!(networks.is_selectable(&id("a:c")) && !networks.is_selectable(&a));
}

#[test]
fn what_goes_through_a_network_that_changes_stays_selectable() {
    let networks = networks();
    networks.create(id("a:front"), &config(None)).unwrap();
    networks.create(id("a:behind"), &config(Some("a:front")).with_selectable(true)).unwrap();
    networks.update(&id("a:front"), &config(None)).unwrap();
    assert!(networks.is_selectable(&id("a:behind")) && !networks.is_selectable(&id("a:front")));
}

#[test]
fn what_is_built_is_not_registered() {
    let networks = networks();
    assert_eq!(networks.build(&id("a:b"), &config(Some("a:absent"))).unwrap().kind(), "socks5");
    let wrong: NetworkConfig = serde_json::from_value(json!({ "kind": "socks5" })).unwrap();
    assert!(matches!(networks.build(&id("a:b"), &wrong), Err(NetworkError::Config { .. })));
    assert_eq!(networks.ids(), []);
}

#[test]
fn several_changes_take_place_at_once_or_not_at_all() {
    let networks = networks();
    networks.create(id("a:0"), &config(None)).unwrap();
    networks.create(id("a:1"), &config(Some("a:0"))).unwrap();
    networks.create(id("a:2"), &config(Some("a:1"))).unwrap();
    let before = ["a:0", "a:1", "a:2"].map(|network| networks.get(&id(network)).unwrap());
    let retired = || before.each_ref().map(|registered| registered.retired.is_cancelled());

    let mut changes = NetworkChanges::default();
    assert!(changes.is_empty());
    networks.apply(NetworkChanges::default()).unwrap();
    changes.build(&networks, id("a:1"), &config(None)).unwrap();
    changes.build(&networks, id("a:0"), &config(Some("a:2"))).unwrap();
    changes.build(&networks, id("a:3"), &config(Some("a:gone"))).unwrap();
    assert!(matches!(networks.apply(changes), Err(NetworkError::ViaNotRegistered { .. })));
    assert_eq!(networks.ids().len(), 3);
    assert_eq!(retired(), [false; 3]);

    // The circle that this were with the old `a:1` is none with the new one.
    let mut changes = NetworkChanges::default();
    changes.build(&networks, id("a:1"), &selectable(true)).unwrap();
    changes.build(&networks, id("a:0"), &config(Some("a:2"))).unwrap();
    changes.insert(id("a:3"), Arc::new(Direct::default()), true);
    changes.unregister(id("a:3")).unregister(id("a:absent"));
    networks.apply(changes).unwrap();
    assert_eq!(networks.ids().len(), 3);
    assert_eq!(retired(), [true; 3], "the one that goes through another is retired with it");
    let now = ["a:0", "a:1", "a:2"].map(|network| networks.get(&id(network)).unwrap());
    assert!(now.iter().all(|registered| !registered.retired.is_cancelled()));
    assert!(networks.is_selectable(&id("a:1")) && !networks.is_selectable(&id("a:0")));

    let mut changes = NetworkChanges::default();
    changes.build(&networks, id("a:1"), &config(Some("a:0"))).unwrap();
    assert!(matches!(networks.apply(changes), Err(NetworkError::ViaCycle { .. })));
}

#[test]
fn a_later_driver_of_a_kind_replaces_the_earlier() {
    struct Refuses;

    impl Driver for Refuses {
        type Config = serde_json::Value;
        const KIND: &'static str = "socks5";

        fn create(
            &self,
            _: Self::Config,
            _: &NetworkRegistry,
        ) -> Result<Arc<dyn Network>, frame_registry::BoxError> {
            Err("not here".into())
        }
    }

    let drivers = Drivers::standard().with(Refuses);
    assert_eq!(drivers.kinds().filter(|&kind| kind == "socks5").count(), 1);
    let networks = NetworkRegistry::with_drivers(Arc::new(Direct::default()), drivers);
    let error = networks.create(id("a:b"), &config(None)).unwrap_err();
    let NetworkError::Config { source: ConfigError::Invalid { source, .. }, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(source.to_string(), "not here");
}

#[test]
fn a_network_is_never_absent_while_it_is_replaced() {
    let networks = networks();
    networks.register(id("a:b"), Arc::new(Direct::default())).unwrap();
    std::thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            for _ in 0..1_000 {
                networks.replace(&id("a:b"), Arc::new(Direct::default())).unwrap();
            }
        });
        while !replacing.is_finished() {
            assert!(networks.contains(&id("a:b")));
        }
    });
}

/// What may be done to a registry of the networks `a:0` to `a:3`.
#[derive(Debug, Clone, Copy)]
enum Change {
    Create(u8, Option<u8>),
    Update(u8, Option<u8>),
    Unregister(u8),
}

fn change() -> impl Strategy<Value = Change> {
    let network = || 0..4_u8;
    prop_oneof![
        (network(), proptest::option::of(network())).prop_map(|(id, via)| Change::Create(id, via)),
        (network(), proptest::option::of(network())).prop_map(|(id, via)| Change::Update(id, via)),
        network().prop_map(Change::Unregister),
    ]
}

/// The networks, and what each goes through.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model(BTreeMap<u8, Option<u8>>);

impl Model {
    /// Puts a network in its place, unless it could not go where it is to go.
    fn put(&mut self, id: u8, via: Option<u8>) -> bool {
        let mut changed = self.clone();
        changed.0.insert(id, via);
        let is_there = via.is_none_or(|via| changed.0.contains_key(&via));
        let mut here = Some(id);
        // More steps than there are networks is a circle.
        for _ in 0..=changed.0.len() {
            here = here.and_then(|here| changed.0.get(&here).copied().flatten());
        }
        let is_allowed = is_there && here.is_none();
        if is_allowed {
            *self = changed;
        }
        is_allowed
    }

    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Create(id, via) => !self.0.contains_key(&id) && self.put(id, via),
            Change::Update(id, via) => self.0.contains_key(&id) && self.put(id, via),
            Change::Unregister(id) => self.0.remove(&id).is_some(),
        }
    }
}

proptest! {
    #[test]
    fn any_history_leaves_the_networks_that_a_simple_model_has(history in vec(change(), 0..40)) {
        let networks = networks();
        let name = |network: u8| format!("a:{network}");
        let config = |via: Option<u8>| config(via.map(name).as_deref());
        let mut model = Model::default();
        for change in history {
            let done = match change {
                Change::Create(network, via) => networks.create(id(&name(network)), &config(via)).is_ok(),
                Change::Update(network, via) => networks.update(&id(&name(network)), &config(via)).is_ok(),
                Change::Unregister(network) => networks.unregister(&id(&name(network))),
            };
            prop_assert_eq!(done, model.apply(change), "{:?}", change);
            let table = networks.inner.table.load();
            let there = table.iter().map(|(id, registered)| {
                let number = |id: &NetworkId| id.name().parse().unwrap();
                prop_assert!(!registered.retired.is_cancelled());
                Ok((number(id), registered.via().map(number)))
            });
            prop_assert_eq!(&there.collect::<Result<BTreeMap<u8, _>, _>>()?, &model.0);
        }
    }
}

/// Where a [`Bomb`] panics.
#[derive(Debug, Clone, Copy, PartialEq)]
enum At {
    Kind,
    Connect,
    Poll,
    Drop,
}

/// A network of another crate, with a bug.
struct Bomb(At);

impl Network for Bomb {
    fn kind(&self) -> &'static str {
        assert_ne!(self.0, At::Kind, "kind");
        "bomb"
    }

    fn connect<'a>(
        &'a self,
        _: &'a Endpoint,
        _: Option<&'a IsolationKey>,
    ) -> BoxFuture<'a, Result<BoxStream, DriverError>> {
        assert_ne!(self.0, At::Connect, "connect");
        Box::pin(async { panic!("poll") })
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert_ne!(self.0, At::Drop, "drop");
    }
}

#[test]
fn a_network_whose_drop_panics_is_taken_away_all_the_same() {
    let networks = networks();
    let register = || networks.register(id("a:b"), Arc::new(Bomb(At::Drop)));
    register().unwrap();
    register().unwrap_err();
    assert!(networks.unregister(&id("a:b")));
    register().unwrap();
    networks.replace(&id("a:b"), Arc::new(Bomb(At::Drop))).unwrap();
    let mut changes = NetworkChanges::default();
    changes.insert(id("a:b"), Arc::new(Bomb(At::Drop)), false).insert(
        id("a:b"),
        Arc::new(Bomb(At::Drop)),
        true,
    );
    networks.apply(changes).unwrap();
    assert_eq!(networks.ids(), [id("a:b")]);
    assert_eq!(networks.kind(&id("a:b")), Some("bomb"));
    let mut unused = NetworkChanges::default();
    unused.insert(id("a:c"), Arc::new(Bomb(At::Drop)), false);
    drop(unused);
    drop(networks);
}

#[test]
fn a_network_that_panics_when_it_is_asked_what_it_is_is_not_registered() {
    let networks = networks();
    let refused = networks.register(id("a:b"), Arc::new(Bomb(At::Kind))).unwrap_err();
    assert!(matches!(&refused, NetworkError::Panicked { id } if id.as_str() == "a:b"), "{refused:?}");
    networks.register(id("a:b"), Arc::new(Direct::default())).unwrap();
    networks.replace(&id("a:b"), Arc::new(Bomb(At::Kind))).unwrap_err();
    let mut changes = NetworkChanges::default();
    changes.insert(id("a:b"), Arc::new(Bomb(At::Kind)), false);
    assert!(format!("{changes:?}").contains("unknown"));
    networks.apply(changes).unwrap_err();
    assert_eq!(networks.ids(), [id("a:b")]);
    assert_eq!(networks.kind(&id("a:b")), Some("direct"));
}

#[tokio::test]
async fn a_network_that_panics_fails_the_one_call() {
    let networks = networks();
    let to = "h:1".parse().unwrap();
    for at in [At::Connect, At::Poll] {
        networks.register(id("a:b"), Arc::new(Bomb(at))).unwrap();
        let registered = networks.get(&id("a:b")).unwrap();
        for error in
            [registered.connect(&to, None).await.unwrap_err(), registered.carry(&to).await.unwrap_err()]
        {
            assert!(matches!(error.cause(), Cause::Panicked) && !error.is_retryable(), "{error:?}");
        }
        assert!(networks.unregister(&id("a:b")));
    }
}

/// A driver that panics where the setting says, or else makes a network.
struct BombDriver;

impl Driver for BombDriver {
    type Config = BTreeMap<String, bool>;
    const KIND: &'static str = "bomb";

    fn create(
        &self,
        config: Self::Config,
        _: &NetworkRegistry,
    ) -> Result<Arc<dyn Network>, frame_registry::BoxError> {
        assert!(config.is_empty(), "create");
        Ok(Arc::new(Bomb(At::Drop)))
    }
}

impl Drop for BombDriver {
    fn drop(&mut self) {
        panic!("drop of a driver");
    }
}

#[test]
fn a_driver_that_panics_is_an_error_of_the_configuration() {
    let drivers = Drivers::standard().with(BombDriver).with(BombDriver);
    let networks = NetworkRegistry::with_drivers(Arc::new(Direct::default()), drivers);
    let config = |json| serde_json::from_value(json).unwrap();
    let error = networks.create(id("a:b"), &config(json!({ "kind": "bomb", "fuse": true }))).unwrap_err();
    assert!(
        matches!(&error, NetworkError::Config { source: ConfigError::Panicked { kind }, .. } if kind == "bomb"),
        "{error:?}"
    );
    networks.create(id("a:b"), &config(json!({ "kind": "bomb" }))).unwrap();
    networks.update(&id("a:b"), &config(json!({ "kind": "bomb" }))).unwrap();
    drop(networks);
}
