//! What a unit may hold, and that others find room beside one that takes all it gets.

mod connections;
mod descriptors;
mod lookups;
#[path = "../never_open/sealed.rs"]
#[allow(dead_code)]
mod sealed;
#[path = "../servers/mod.rs"]
mod servers;
#[path = "../support/mod.rs"]
mod support;

use frame_net::{Cause, Dialer, LimitReached, NetworkError, UNIT_OF, Unit, dialer};
use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, Key, Options, ResolveContext};
use serde_json::Value;

/// What a frame is of.
static OF: Key<String> = Key::new("limits_test.unit");

/// An app whose frames have units.
fn app(config: Value) -> App {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    app.set(&UNIT_OF, |frame| frame.get(&OF).map(|of| Unit::new("unit", of.as_str()))).unwrap();
    frame_net::boot(&mut app, serde_json::from_value(config).unwrap()).unwrap();
    app.build()
}

/// A frame of `unit`, with these options.
fn frame(app: &App, unit: &str, options: &Value) -> Frame {
    let options = Options::from_json(options).unwrap();
    let mut frame = FrameBuilder::new();
    frame.set(&OF, unit.to_owned());
    app.resolvers().resolve(&ResolveContext::new(app, None), &options, frame.pairs_mut()).unwrap();
    frame.seal()
}

fn dialer_of(app: &App, unit: &str) -> Dialer {
    dialer(&frame(app, unit, &serde_json::json!({})), app).unwrap()
}

/// The limit that was reached.
fn limit(error: &NetworkError) -> &LimitReached {
    match error {
        NetworkError::Connect { source, .. }
        | NetworkError::Listen { source, .. }
        | NetworkError::Bind { source, .. }
        | NetworkError::Lookup { source, .. } => match source.cause() {
            Cause::Limit(limit) => limit,
            cause => panic!("{cause:?}"),
        },
        error => panic!("{error:?}"),
    }
}
