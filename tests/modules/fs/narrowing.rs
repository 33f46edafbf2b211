//! Chains of options, against a model in which a root is a list of names.

use std::fs;
use std::sync::LazyLock;

use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, Options, ResolveContext};
use frame_runtime::fs_root::{FS_BASE, FS_ROOT, FS_ROOT_KEY, FsRoot, Root};
use proptest::prelude::*;
use tempfile::TempDir;

const NAMES: [&str; 2] = ["a", "b"];
const DEPTH: usize = 4;

/// A directory for each list of at most `DEPTH` names, with a file in each that says where it is, a link `down` to `a`,
/// and a link `up` to what is above.
static TREE: LazyLock<(TempDir, App)> = LazyLock::new(|| {
    fn grow(directory: &std::path::Path, path: &str, depth: usize) {
        fs::write(directory.join("here"), path).unwrap();
        std::os::unix::fs::symlink("..", directory.join("up")).unwrap();
        std::os::unix::fs::symlink("a", directory.join("down")).unwrap();
        for name in NAMES.iter().filter(|_| depth < DEPTH) {
            fs::create_dir(directory.join(name)).unwrap();
            grow(&directory.join(name), &format!("{path}/{name}"), depth + 1);
        }
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("here"), "outside").unwrap();
    fs::create_dir(directory.path().join("base")).unwrap();
    grow(&directory.path().join("base"), "", 0);
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    app.set(&FS_BASE, Root::open(directory.path().join("base")).unwrap()).unwrap();
    (directory, app.build())
});

/// What a call is given: names, whether it is read-only, and whether whoever gives it is trusted.
type Step = Option<(Vec<&'static str>, bool, bool)>;

fn step() -> impl Strategy<Value = Step> {
    let name = prop_oneof![4 => Just("a"), 4 => Just("b"), 1 => Just("down"), 1 => Just("up"), 1 => Just("."), 1 => Just("here")];
    proptest::option::weighted(0.8, (proptest::collection::vec(name, 0..3), any::<bool>(), any::<bool>()))
}

/// Where names lead from `root`, and whether that is inside and a directory. Links are looked at as the system does:
/// one name after the other.
fn lead<'a>(root: &[&'a str], names: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut at = root.to_vec();
    for name in names {
        match *name {
            "." => (),
            "up" if at.len() > root.len() => drop(at.pop()),
            "up" | "here" => return None,
            "down" if at.len() < DEPTH => at.push("a"),
            name if NAMES.contains(&name) && at.len() < DEPTH => at.push(name),
            _ => return None,
        }
    }
    Some(at)
}

fn frame(parent: Option<&Frame>, options: &Options) -> Result<Frame, frame_registry::ResolveError> {
    let app = &TREE.1;
    let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
    app.resolvers().resolve(&ResolveContext::new(app, parent), options, frame.pairs_mut())?;
    Ok(frame.seal())
}

proptest! {
    #[test]
    fn no_chain_of_options_leads_out_or_takes_read_only_away(steps in proptest::collection::vec(step(), 1..6)) {
        let mut parent: Option<Frame> = None;
        let mut model: Option<(Vec<&str>, bool)> = None;
        for step in steps {
            let mut options = Options::new();
            let mut expected = model.clone().map(Some);
            if let Some((names, read_only, is_trusted)) = &step {
                let path = if names.is_empty() { ".".to_owned() } else { names.join("/") };
                let wanted = FsRoot::new(&path).unwrap();
                options.set(&FS_ROOT, wanted.with_read_only(*read_only));
                if !is_trusted {
                    options = options.untrusted();
                }
                let from = model.clone().or_else(|| is_trusted.then(|| (Vec::new(), false)));
                expected = Some(from.and_then(|(root, held)| Some((lead(&root, names)?, held || *read_only))));
            }
            let made = frame(parent.as_ref(), &options);
            match expected {
                // It was refused: the unit does not start, and the chain goes on from where it was.
                Some(None) => prop_assert!(made.is_err(), "{step:?} from {model:?}: {made:?}"),
                Some(Some((at, read_only))) => {
                    let made = made.unwrap();
                    let root = made.get(&FS_ROOT_KEY).unwrap();
                    let here = root.directory().read_to_string("here").unwrap();
                    let expected: String = at.iter().flat_map(|name| ["/", name]).collect();
                    prop_assert_eq!(here, expected);
                    prop_assert_eq!(root.is_read_only(), read_only);
                    model = Some((at, read_only));
                    parent = Some(made);
                }
                None => {
                    let made = made.unwrap();
                    prop_assert!(made.get(&FS_ROOT_KEY).is_none());
                    parent = Some(made);
                }
            }
        }
    }
}
