//! One script that looks up names at a silent name server.

use std::time::Duration;

use serde_json::json;

use crate::sealed::{LOCAL_NAME, sealed_tests};
use crate::{App, Function, GENEROUS, as_program};

/// What others do may take this long, beside a script that looks up all it can.
const SOON: Duration = Duration::from_secs(5);

sealed_tests! {
    async fn lookups_hold_up_neither_files_nor_names_nor_a_reload(world: World) {
        as_program(async {
            let app = App::new("[clearnet]\nallow = [\"0.0.0.0/0\", \"::/0\"]", &[
                Function {
                    name: "greedy",
                    source: "for i = 1, 3000 do pcall(net.connect, 'h' .. i .. '.slow.example', 80, { timeout = 0.001 }) end",
                    settings: "",
                },
                Function {
                    name: "honest",
                    source: "return { fs.read('file'), #net.lookup(...) }",
                    settings: "options = { fs_root = \".\" }",
                },
            ])
            .await;
            app.call("greedy", json!(null), GENEROUS).await.unwrap();
            let honest = app.call("honest", json!(LOCAL_NAME), SOON).await.unwrap();
            assert_eq!(honest, json!(["content", 2]));
            tokio::time::timeout(SOON, app.reload()).await.expect("it is reloaded");
        });
        drop(world);
    }
}
