//! The examples of the guide are run.

use super::World;

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_page_on_streams_runs() {
    let page = include_str!("../../../docs/src/streams.md");
    let examples: Vec<_> =
        page.split("```lua\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 6, "{}", examples.len());
    for example in examples {
        let world = World::new(example);
        std::fs::write(world.file("report.csv"), "a,b\n1,2\n").unwrap();
        if let Err(error) = world.call().await {
            panic!("{error}:\n{example}");
        }
    }
}
