//! Frames that ask for an overlay network in a way that gives none.

use frame_registry::{FrameBuilder, Options, ResolveContext};
use serde_json::{Value, json};

use crate::{app_with, connect, sealed_tests, socks5};

sealed_tests! {
    async fn an_option_that_is_no_id_makes_no_frame(world: World) {
        let wrong = [
            json!(1),
            json!(1.5),
            json!(true),
            json!(null),
            json!(["app:overlay"]),
            json!({ "id": "app:overlay" }),
            json!("overlay"),
            json!("app:"),
            json!(" "),
            json!("app:overlay\n"),
            json!(""),
        ];
        for network in wrong {
            Options::from_json(&json!({ "network": network })).unwrap_err();
        }
        world.assert_silent_but_for(0);
    }

    async fn an_empty_option_of_a_script_keeps_what_was_chosen_before(world: World) {
        let (app, _, parent) = app_with(&socks5("127.0.0.1:1"));
        let call = Options::from_untrusted_json(&json!({ "network": "" })).unwrap();
        let preset = Options::from_json(&json!({ "network": "app:overlay" })).unwrap();
        let mut by_preset = FrameBuilder::new();
        app.resolvers()
            .resolve(&ResolveContext::new(&app, None), &preset.merged_under(&call), by_preset.pairs_mut())
            .unwrap();
        let mut inherited = parent.fork();
        app.resolvers().resolve(&ResolveContext::new(&app, Some(&parent)), &call, inherited.pairs_mut()).unwrap();
        for frame in [by_preset.seal(), inherited.seal()] {
            connect(&app, &frame, &world.ways_to_the_decoy()[0]).await.unwrap_err();
        }
        world.assert_silent_but_for(2);
    }

    async fn a_network_that_is_not_registered_makes_no_frame(world: World) {
        let (app, networks, parent) = app_with(&socks5("127.0.0.1:1"));
        let resolve = |options: Value, parent| {
            let options = Options::from_json(&options).unwrap();
            app.resolvers().resolve(&ResolveContext::new(&app, parent), &options, FrameBuilder::new().pairs_mut())
        };
        resolve(json!({ "network": "app:absent" }), None).unwrap_err();
        resolve(json!({ "network": "app:absent" }), Some(&parent)).unwrap_err();
        assert!(networks.unregister(&"app:overlay".parse().unwrap()));
        resolve(json!({}), Some(&parent)).unwrap_err();
        world.assert_silent_but_for(0);
    }
}
