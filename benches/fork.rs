//! Forks a frame that has one inherited pair, sets one, seals and drops it.

#[path = "harness/mod.rs"]
mod harness;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use frame_registry::{Frame, Key};
use harness::{Suite, opaque};

static REGION: Key<u64> = Key::new("region").inherit();
static NETWORK_KEY: Key<String> = Key::new("overlay").inherit();
static PID: Key<u64> = Key::new("pid");

/// A frame as one writes it who knows all the keys there are.
struct Fields {
    overlay: Option<Arc<String>>,
    pid: Option<u64>,
}

struct Overlay(#[allow(dead_code)] String);
struct Pid(#[allow(dead_code)] u64);

fn main() {
    let with_inline: Frame = [REGION.pair(7)].into_iter().collect();
    let with_shared: Frame = [NETWORK_KEY.pair("eu".to_owned())].into_iter().collect();
    let with_both: Frame =
        [REGION.pair(7), PID.pair(1), NETWORK_KEY.pair("eu".to_owned())].into_iter().collect();
    let forking = |frame: Frame| {
        move || {
            let mut child = opaque(&frame).fork();
            child.set(&PID, black_box(2));
            black_box(&child.seal());
        }
    };

    let fields = Arc::new(Fields { overlay: Some(Arc::new("eu".to_owned())), pid: Some(1) });
    let mut by_type: HashMap<TypeId, Arc<dyn Any + Send + Sync>> = HashMap::new();
    by_type.insert(TypeId::of::<Overlay>(), Arc::new(Overlay("eu".to_owned())));
    let by_type = Arc::new(by_type);

    let mut suite = Suite::new("fork");
    suite
        .case("inherits an inline value", forking(with_inline.clone()))
        .case("inherits a shared value", forking(with_shared))
        .case("inherits two of three", forking(with_both))
        .case("Arc<struct of fields>, shared value", || {
            let child = Fields { overlay: opaque(&fields).overlay.clone(), pid: Some(black_box(2)) };
            black_box(&Arc::new(child).pid);
        })
        .case("Arc<HashMap<TypeId, Arc<dyn Any>>>", || {
            let mut child = HashMap::clone(opaque(&by_type));
            child.insert(TypeId::of::<Pid>(), Arc::new(Pid(black_box(2))));
            black_box(&Arc::new(child));
        })
        .case("clone and drop the frame itself", || {
            black_box(&opaque(&with_inline).clone());
        });
    assert!(matches!(suite.allocations("inherits an inline value"), Some(0 | 1) | None));
    assert!(matches!(suite.allocations("inherits a shared value"), Some(0 | 1) | None));
    suite.finish();
}
