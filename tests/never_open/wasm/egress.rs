//! Components that may not reach where they try to go.

use serde_json::json;

use crate::guest::{Ask, Outcome};
use crate::{app_with, sealed_tests, socks5};

sealed_tests! {
    async fn a_component_that_egress_does_not_allow(world: World) {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let app = app_with(&socks5(&proxy));
        for to in world.ways_to_the_decoy() {
            let is_address = !to.contains(".example");
            let code = if is_address { "destination-IP-prohibited" } else { "HTTP-request-denied" };
            for egress in [json!([]), json!(["other.example", "*.decoy.example", "10.0.0.0/8"])] {
                for options in [json!({ "egress": egress }), json!({ "egress": egress, "network": "app:overlay" })] {
                    for scheme in 0..2 {
                        let ask = Ask { scheme, ..Ask::get(&to) };
                        assert_eq!(app.call(&ask, &options).await.unwrap(), [Outcome::Failed(code)], "{to}");
                    }
                }
            }
        }
        world.assert_silent_but_for(0);
    }
}
