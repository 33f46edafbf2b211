//! The documentation comment of an option, in each form it can have.
#![deny(warnings)]

use frame_registry::{FrameOption, declared_options, frame_option};

/// One line.
#[frame_option(name = "line", dispatcher)]
pub static LINE: FrameOption<u32>;

/// The first paragraph,
/// of two lines.
///
///     code
#[frame_option(name = "lines", dispatcher)]
pub static LINES: FrameOption<u32>;

/**
 * A comment with stars.
 *
 *   Indented.
 */
#[frame_option(name = "stars", dispatcher)]
pub static STARS: FrameOption<u32>;

/** A comment
without stars. */
#[frame_option(name = "block", dispatcher)]
pub static BLOCK: FrameOption<u32>;

#[doc = concat!("Made", " by a macro,")]
/// and written by hand.
#[frame_option(name = "made", dispatcher)]
pub static MADE: FrameOption<u32>;

#[doc = "- a list\n* of two"]
#[frame_option(name = "list", dispatcher)]
pub static LIST: FrameOption<u32>;

macro_rules! documented {
    ($doc:expr, $name:ident) => {
        #[doc = $doc]
        #[frame_option(name = "passed", dispatcher)]
        pub static $name: FrameOption<u32>;
    };
}

documented!("Passed through a macro.", PASSED);

#[frame_option(name = "none", dispatcher)]
pub static NONE: FrameOption<u32>;

fn main() {
    let doc = |name: &str| declared_options().into_iter().find(|option| option.name() == name).unwrap().doc();
    assert_eq!(doc("line"), "One line.");
    assert_eq!(doc("lines"), "The first paragraph,\nof two lines.\n\n    code");
    assert_eq!(doc("stars"), "A comment with stars.\n\n  Indented.");
    assert_eq!(doc("block"), "A comment\nwithout stars.");
    assert_eq!(doc("made"), "Made by a macro,\nand written by hand.");
    assert_eq!(doc("list"), "- a list\n* of two");
    assert_eq!(doc("passed"), "Passed through a macro.");
    assert_eq!(doc("none"), "");
}
