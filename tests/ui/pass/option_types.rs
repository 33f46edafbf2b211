//! Whatever is a `FrameOption`, by whatever name, of whatever value.
#![deny(warnings)]

use frame_registry::{FrameOption, OptionKind, Options, declared_options, frame_option};
use std::collections::BTreeMap;

type Named<T> = FrameOption<T>;
type Mode = FrameOption<Setting>;

/// Not to be read from text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    On,
}

/// An alias.
#[frame_option(name = "alias", dispatcher)]
pub static ALIAS: Mode;

/// A generic alias,
/// in two lines.
#[frame_option(dispatcher, name = "generic_alias")]
pub(crate) static GENERIC_ALIAS: Named<Vec<u8>>;

#[frame_option(name = "by_path", runtime)]
static BY_PATH: ::frame_registry::FrameOption<BTreeMap<String, Vec<Option<u32>>>>;

fn main() {
    let options = Options::new()
        .with(&ALIAS, Setting::On)
        .with(&GENERIC_ALIAS, vec![1])
        .with(&BY_PATH, BTreeMap::new());
    assert_eq!(options.get(&ALIAS), Some(&Setting::On));
    assert_eq!(options.get(&GENERIC_ALIAS).unwrap(), &[1]);
    assert!(options.get(&BY_PATH).unwrap().is_empty());

    let declared = declared_options();
    let declared: Vec<_> =
        declared.iter().map(|option| (option.name(), option.kind(), option.is_text())).collect();
    let expected = [
        ("alias", OptionKind::Dispatcher, false),
        ("by_path", OptionKind::Runtime, true),
        ("generic_alias", OptionKind::Dispatcher, true),
    ];
    assert_eq!(declared, expected);
    assert_eq!(GENERIC_ALIAS.declared().doc(), "A generic alias,\nin two lines.");
}
