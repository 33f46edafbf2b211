//! Scripts that join groups and publish to them.

use frame_dispatch::process::{GroupId, HostConfig, SPAWN_KEY, SpawnHosts};
use frame_dispatch::{ErrorKind, FunctionId, Task};
use frame_registry::FrameBuilder;
use serde_json::json;

use super::world::{World, of, within};

#[tokio::test]
async fn scripts_publish_to_those_that_joined() {
    let world = World::new();
    world.script(
        "app:reader",
        "process.join('news')
         process.send(..., 'ready')
         local m = process.receive()
         return { m.kind, m.from == ..., m.payload }",
    );
    let source = "local readers = {}
                  for i = 1, 2 do
                    readers[i] = process.spawn { host = 'app:host', entry = 'app:reader', payload = process.self(), monitor = true }
                    process.receive()
                  end
                  local members = process.members('news')
                  local delivered, full = process.publish('news', 'rain')
                  local results = {}
                  for i = 1, 2 do results[i] = process.receive().result end
                  return { #members, members[1] == readers[1], delivered, full, results, #process.members('news') }";
    let result = json!(["sent", true, "rain"]);
    assert_eq!(world.ran(source).await, json!([2, true, 2, 0, [result, result], 0]));
}

#[tokio::test]
async fn a_script_joins_once_leaves_once_and_receives_what_it_publishes() {
    let world = World::with_host(HostConfig::default().with_mailbox(1));
    let source = "local said = { process.join('news'), process.join('news'), process.publish('news', 1) }
                  said[#said + 1] = select(2, process.publish('news', 2))
                  said[#said + 1] = process.receive(0).payload
                  said[#said + 1] = process.leave('news')
                  said[#said + 1] = process.leave('news')
                  return said";
    assert_eq!(world.ran(source).await, json!([true, false, 1, 0, 1, 1, true, false]));
}

#[tokio::test]
async fn a_script_is_told_when_members_join_or_end() {
    let world = World::new();
    world.script("app:member", "process.join('news') process.receive()");
    let source = "local watches = { process.watch('news'), process.watch('news') }
                  local member = process.spawn { host = 'app:host', entry = 'app:member' }
                  local m = process.receive(60)
                  local joined = process.members('news')[1] == member
                  process.terminate(member)
                  process.receive_matching({ kind = 'group_changed' }, 60)
                  return { watches, m.kind, m.group, m.host, joined, #process.members('news'), process.unwatch('news') }";
    let expected = json!([[true, false], "group_changed", "news", "app:host", true, 0, true]);
    assert_eq!(world.ran(source).await, expected);
}

/// Tries all that there is with the group `news` of a host; returns the kinds of errors.
const TRY: &str = "
    local outcomes = {}
    for _, options in ipairs { {}, { host = 'app:host' }, { host = 'app:other' } } do
      for _, call in ipairs {
        function() process.join('news', options) end,
        function() process.leave('news', options) end,
        function() process.watch('news', options) end,
        function() process.unwatch('news', options) end,
        function() process.members('news', options) end,
        function() process.publish('news', 1, options) end,
      } do
        local ok, error = pcall(call)
        table.insert(outcomes, ok and 'ok' or error.kind)
      end
    end
    return outcomes";

fn kinds(outcomes: [&str; 3]) -> serde_json::Value {
    json!(outcomes.iter().flat_map(|kind| [kind; 6]).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_script_uses_the_groups_of_its_own_host_and_of_those_that_it_is_granted() {
    let world = World::new();
    world.processes.register_host("app:other".parse().unwrap(), HostConfig::default()).unwrap();
    world.script("app:try", TRY);
    let tried = within("it", world.processes.exec(&world.root, of("app:try"))).await.unwrap();
    assert_eq!(tried, kinds(["ok", "ok", "denied"]).into());
    let granted = ["app:other".parse().unwrap()].into_iter().collect::<SpawnHosts>();
    let start = of("app:try").with_pair(SPAWN_KEY.pair(granted.clone()));
    let tried = within("it", world.processes.exec(&world.root, start)).await.unwrap();
    assert_eq!(tried, kinds(["ok", "ok", "ok"]).into());

    // A function that no process has called is not a member, and has no host.
    world.function("app:try", TRY);
    let id: FunctionId = "app:try".parse().unwrap();
    let mut frame = FrameBuilder::new();
    frame.pairs_mut().push(SPAWN_KEY.pair(granted));
    let root = world.processes.functions().root_in(frame.seal());
    let tried = within("it", root.call(Task::new(id))).await.unwrap();
    let ends = [["invalid"; 2], ["denied"; 2], ["ok"; 2]];
    let expected: Vec<_> = ends.iter().flat_map(|end| ["invalid"; 4].into_iter().chain(*end)).collect();
    assert_eq!(tried, json!(expected).into());
}

#[tokio::test]
async fn what_is_wrong_with_a_group_is_said_in_words() {
    let world = World::with_host(HostConfig::default().with_groups(1));
    for (source, kind, words) in [
        ("process.join('')", ErrorKind::Invalid, "is not a valid name for a group"),
        (
            "process.join('a') process.join('b')",
            ErrorKind::Exhausted,
            "has reached its group limit of 1 (`groups` of its host)",
        ),
        (
            "process.join('a', 1)",
            ErrorKind::Invalid,
            "the options of `process.join` are a table such as { host =",
        ),
        (
            "process.publish('a', 1, { hots = '' })",
            ErrorKind::Invalid,
            "`process.publish` takes no options but `host`",
        ),
        ("process.members('a', { host = 1 })", ErrorKind::Invalid, "`host` is the id of a host, such as"),
        ("process.members('a', { host = 'x' })", ErrorKind::Invalid, "has no namespace"),
        (
            "process.join('a', { host = 'app:none' })",
            ErrorKind::Denied,
            "not allowed to use groups of `app:none`; grant it by the option `spawn`",
        ),
        ("process.publish('a', print)", ErrorKind::Invalid, "the message"),
    ] {
        let error = world.failed(source).await;
        assert!(error.kind() == kind && error.message().contains(words), "{source}: {error}");
    }
    let trusted = World::trusted();
    trusted.processes.register_host("app:other".parse().unwrap(), HostConfig::default()).unwrap();
    let source =
        "process.join('news', { host = 'app:other' }) return process.members('news', { host = 'app:other' })";
    let members = trusted.ran(source).await;
    assert_eq!(members.as_array().unwrap().len(), 1);
    let group = GroupId::new("app:other".parse().unwrap(), "news").unwrap();
    assert!(trusted.processes.members(&group).is_empty(), "it has ended");
}
