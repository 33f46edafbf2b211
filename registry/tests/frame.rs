//! Frames and apps: what is set, inherited, hidden and released.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use frame_registry::{
    App, AppError, Fork, Frame, FrameBuilder, FrameResolvers, Key, OptionValue, Options, Pair, Pairs,
};
use proptest::prelude::*;

static REGION: Key<String> = Key::new("region").inherit();
static ATTEMPT: Key<u32> = Key::new("attempt");
static SAME_NAME: Key<u32> = Key::new("attempt");
static TOKEN: Key<&'static str> = Key::new("token").secret().inherit();

/// Pairs are not `Unpin`, for the sake of how they are dropped. What holds them must not pass that on to users' types.
#[test]
fn what_holds_pairs_and_values_is_unpin() {
    fn is_unpin<T: Unpin>() {}
    is_unpin::<Pairs>();
    is_unpin::<<Pairs as IntoIterator>::IntoIter>();
    is_unpin::<Frame>();
    is_unpin::<FrameBuilder>();
    is_unpin::<Options>();
    is_unpin::<OptionValue>();
}

#[test]
fn forks_carry_what_is_inherited_and_leave_the_parent_as_it_was() {
    let mut builder = FrameBuilder::new();
    builder.set(&REGION, "eu".to_owned()).set(&ATTEMPT, 1);
    let parent = builder.seal();

    let mut child = parent.fork();
    assert_eq!(child.get(&REGION).unwrap(), "eu");
    assert_eq!(child.get(&ATTEMPT), None);
    child.set(&REGION, "us".to_owned());
    let child = child.seal();
    let grandchild = child.fork().seal();
    assert_eq!(grandchild.get(&REGION).unwrap(), "us");
    assert_eq!(parent.get(&REGION).unwrap(), "eu");
}

#[test]
fn a_fork_shares_values_and_keeps_no_ancestor_alive() {
    static HELD: Key<Arc<str>> = Key::new("held");
    let (held, shared): (Arc<str>, _) = ("held".into(), Arc::new("shared".to_owned()));
    let root: Frame =
        [HELD.pair(Arc::clone(&held)), REGION.pair_shared(Arc::clone(&shared))].into_iter().collect();
    let child = root.fork().seal();
    assert!(std::ptr::eq(child.get(&REGION).unwrap(), Arc::as_ptr(&shared)));
    drop(root);
    assert_eq!(Arc::strong_count(&held), 1, "the root's own value went with it");
    assert_eq!(Arc::strong_count(&shared), 2);
    drop(child);
    assert_eq!(Arc::strong_count(&shared), 1);
}

/// Takes one of what it has with each fork; at none it does not go on.
#[derive(Debug, PartialEq)]
struct Budget(u32);

impl Fork for Budget {
    fn fork(&self) -> Option<Self> {
        self.0.checked_sub(1).map(Budget)
    }
}

#[test]
fn a_value_says_what_a_fork_gets_in_its_place() {
    static BUDGET: Key<Budget> = Key::new("budget").inherit_forked();
    let root: Frame = [BUDGET.pair(Budget(1))].into_iter().collect();
    let child = root.fork().seal();
    assert_eq!(child.get(&BUDGET), Some(&Budget(0)));
    assert_eq!(child.fork().seal().get(&BUDGET), None);
    assert_eq!(root.get(&BUDGET), Some(&Budget(1)));
}

#[test]
fn keys_of_one_name_are_two_keys() {
    let frame: Frame = [ATTEMPT.pair(1), SAME_NAME.pair(2)].into_iter().collect();
    assert_eq!((frame.get(&ATTEMPT), frame.get(&SAME_NAME)), (Some(&1), Some(&2)));
}

#[test]
fn extending_sets_all_pairs_or_none() {
    let mut builder = FrameBuilder::new();
    builder.set(&ATTEMPT, 1);
    let error = builder.try_extend([Ok(ATTEMPT.pair(2)), Err("no"), Ok(SAME_NAME.pair(3))]).unwrap_err();
    assert_eq!(error, "no");
    assert_eq!(builder.get(&ATTEMPT), Some(&1));

    let panics = (0..).map(|index| if index < 20 { ATTEMPT.pair(index) } else { panic!("out of order") });
    catch_unwind(AssertUnwindSafe(|| {
        builder.extend(panics);
    }))
    .unwrap_err();
    assert_eq!((builder.get(&ATTEMPT).copied(), builder.pairs_mut().len()), (Some(1), 1));

    builder.extend([ATTEMPT.pair(2), SAME_NAME.pair(3)]);
    assert_eq!((builder.get(&ATTEMPT), builder.get(&SAME_NAME)), (Some(&2), Some(&3)));
}

#[test]
fn debug_shows_names_and_values_and_hides_secrets() {
    let mut builder = FrameBuilder::new();
    builder.set(&REGION, "eu".to_owned()).set(&TOKEN, "xyzzy");
    let shown = r#"{"region": "eu", "token": <secret>}"#;
    assert_eq!(format!("{builder:?}"), format!("FrameBuilder {shown}"));
    assert_eq!(format!("{:?}", TOKEN.pair("xyzzy")), r#"Pair("token", <secret>)"#);
    assert_eq!(format!("{:?}", builder.clone().seal()), format!("Frame {shown}"));
    let child = builder.seal().fork().seal();
    assert_eq!(format!("{child:?}"), format!("Frame {shown}"), "a fork of a secret is a secret");
}

#[test]
fn a_sealed_value_that_was_overwritten_is_released() {
    let (old, new) = (Arc::new("old".to_owned()), Arc::new("new".to_owned()));
    let mut builder = FrameBuilder::new();
    builder.push(REGION.pair_shared(Arc::clone(&old))).push(REGION.pair_shared(Arc::clone(&new)));
    let frame = builder.seal();
    assert_eq!((Arc::strong_count(&old), Arc::strong_count(&new)), (1, 2));
    assert_eq!((frame.len(), frame.get(&REGION).unwrap().as_str()), (1, "new"));
}

#[test]
fn an_app_is_written_once() {
    let mut builder = App::builder();
    builder.set(&REGION, "eu".to_owned()).unwrap();
    let error = builder.set(&REGION, "us".to_owned()).unwrap_err();
    assert_eq!(error, AppError::AlreadySet { key: "region" });
    assert_eq!(error.to_string(), "the app's `region` is set already; it is written once");
    builder.set_resolvers(FrameResolvers::empty()).unwrap();
    assert_eq!(builder.set_resolvers(FrameResolvers::linked()).unwrap_err(), AppError::ResolversAlreadySet);
    assert_eq!(builder.build().get(&REGION).unwrap(), "eu");
}

#[test]
fn a_pair_that_is_removed_is_not_on_the_frame_however_often_it_was_set() {
    let mut builder = FrameBuilder::new();
    builder.set(&ATTEMPT, 1).set(&SAME_NAME, 2).set(&ATTEMPT, 3);
    assert_eq!(builder.remove(&ATTEMPT).unwrap().get(&ATTEMPT), Some(&3));
    assert!(builder.remove(&ATTEMPT).is_none());
    assert_eq!((builder.get(&ATTEMPT), builder.get(&SAME_NAME)), (None, Some(&2)));
    let frame = builder.seal();
    assert_eq!((&frame).into_iter().map(Pair::name).collect::<Vec<_>>(), ["attempt"]);
    assert_eq!(frame.iter().next().unwrap().get(&SAME_NAME), Some(&2));
}

static KEYS: [Key<u32>; 12] = [const { Key::new("k").inherit() }; 12];

proptest! {
    /// A sealed frame is the map that the writes make, whatever their number.
    #[test]
    fn a_frame_is_the_map_of_its_writes(writes in prop::collection::vec((0..KEYS.len(), any::<u32>()), 0..40)) {
        let mut builder = FrameBuilder::new();
        let mut model = std::collections::BTreeMap::new();
        let mut last_written = Vec::new();
        for (key, value) in &writes {
            builder.set(&KEYS[*key], *value);
            model.insert(*key, *value);
            last_written.retain(|other| other != key);
            last_written.push(*key);
            prop_assert_eq!(builder.get(&KEYS[*key]), Some(value));
        }
        let frame = builder.seal();
        prop_assert_eq!(frame.len(), model.len());
        for (index, key) in KEYS.iter().enumerate() {
            prop_assert_eq!(frame.get(key), model.get(&index));
        }
        let order: Vec<_> = frame.iter().map(|pair| KEYS.iter().position(|key| pair.get(key).is_some()).unwrap()).collect();
        prop_assert_eq!(order, last_written);
    }

    /// The same, where a child writes over what it inherits, and removes some of it.
    #[test]
    fn a_fork_is_the_map_of_its_parent_and_its_writes(
        inherited in prop::collection::vec((0..KEYS.len(), any::<u32>()), 0..20),
        writes in prop::collection::vec((0..KEYS.len(), any::<Option<u32>>()), 0..20),
    ) {
        let parent: Frame = inherited.iter().map(|(key, value)| KEYS[*key].pair(*value)).collect();
        let mut model: std::collections::BTreeMap<_, _> = inherited.into_iter().collect();
        let mut builder = parent.fork();
        for (key, value) in writes {
            if let Some(value) = value {
                builder.set(&KEYS[key], value);
                model.insert(key, value);
            } else {
                let removed = builder.remove(&KEYS[key]);
                prop_assert_eq!(removed.and_then(|pair| pair.get(&KEYS[key]).copied()), model.remove(&key));
            }
        }
        for frame in [builder.clone().seal(), builder.seal().fork().seal()] {
            prop_assert_eq!(frame.len(), model.len());
            for (index, key) in KEYS.iter().enumerate() {
                prop_assert_eq!(frame.get(key), model.get(&index));
            }
        }
    }

    #[test]
    fn pairs_go_in_and_out_in_order(values in prop::collection::vec(any::<u32>(), 0..30)) {
        let pairs: Pairs = values.iter().map(|value| ATTEMPT.pair(*value)).collect();
        let read = |pair: &Pair| *pair.get(&ATTEMPT).unwrap();
        prop_assert_eq!(pairs.iter().map(read).collect::<Vec<_>>(), values.clone());
        prop_assert_eq!(pairs.get(&ATTEMPT), values.last());
        prop_assert_eq!(pairs.into_iter().map(|pair| read(&pair)).collect::<Vec<_>>(), values);
    }
}
