//! Faults of a SAM bridge.

use frame_net::{LocalEndpoint, NetworkError, dialer};
use serde_json::{Value, json};

use crate::sealed;
use crate::support::{Scripted, Then, expect, send, soon};
use crate::{app_with, connect, sealed_tests};

const HELLO: &str = "HELLO VERSION MIN=3.1 MAX=3.3\n";
/// A destination that I2P knows as any other.
const TO: &str = "ukeu3k5oycgaauneqgtnvselmt4yemvoilkln7jpvamvfx7dnkdq.b32.i2p:80";

fn i2p(bridge: &str) -> Value {
    json!({ "kind": "i2p", "sam": bridge, "deadline": "300ms", "session_deadline": "300ms" })
}

sealed_tests! {
    async fn a_bridge_that_is_down(world: World) {
        let down = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (app, networks, frame) = app_with(&i2p(&down.to_string()));
        soon(connect(&app, &frame, TO)).await.unwrap_err();
        drop(networks);
        assert!(!world.decoy_was_reached() && !world.dns_was_asked());
    }

    async fn a_bridge_that_is_silent_or_closes_or_refuses(world: World) {
        for (moves, then) in [
            (vec![expect(HELLO)], Then::Wait),
            (vec![], Then::Close),
            (vec![expect(HELLO), send("HELLO REPLY RESULT=NOVERSION\n")], Then::Wait),
            (vec![expect(HELLO), send("HELLO REPLY RESULT=I2P_ERROR MESSAGE=\"no\"\n")], Then::Wait),
            (vec![expect(HELLO), send("SOMETHING ELSE\n")], Then::Wait),
        ] {
            let bridge = Scripted::new(&moves, then).await;
            let (app, _, frame) = app_with(&i2p(&bridge.address));
            let error = soon(connect(&app, &frame, TO)).await.unwrap_err();
            assert!(matches!(error, NetworkError::Connect { .. }), "{error:?}");
            assert!(!world.decoy_was_reached() && !world.dns_was_asked());
        }
    }

    async fn what_is_not_on_i2p(world: World) {
        let (app, _, frame) = app_with(&i2p("127.0.0.1:1"));
        let dialer = dialer(&frame, &app).unwrap();
        for to in world.ways_to_the_decoy() {
            let error = soon(connect(&app, &frame, &to)).await.unwrap_err();
            assert!(matches!(error, NetworkError::Connect { .. }) && !error.is_retryable(), "{error:?}");
        }
        for name in [sealed::LOCAL_NAME, sealed::REMOTE_NAME, "localhost"] {
            soon(dialer.lookup(&name.parse().unwrap())).await.unwrap_err();
        }
        soon(dialer.bind_datagram(&LocalEndpoint::port(0))).await.unwrap_err();
        // The bridge was not even asked.
        world.assert_silent_but_for(0);
    }
}
