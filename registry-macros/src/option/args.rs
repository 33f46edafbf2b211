//! The arguments of `#[frame_option]`.

use proc_macro2::{Span, TokenStream};
use syn::{Error, Path};

use crate::args::{self, Errors, Known};
use crate::name::Name;

pub(crate) struct OptionArgs {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    pub(crate) empty_is_unset: bool,
    pub(crate) is_secret: bool,
    pub(crate) krate: Option<Path>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Linked,
    Runtime,
    Dispatcher,
}

const KNOWN: &[Known] = &[
    Known { name: "name", example: "name = \"…\"" },
    Known { name: "runtime", example: "runtime" },
    Known { name: "dispatcher", example: "dispatcher" },
    Known { name: "empty_is_unset", example: "empty_is_unset" },
    Known { name: "secret", example: "secret" },
    Known { name: "crate", example: "crate = path::to::frame_registry" },
];

impl OptionArgs {
    /// The arguments, with a stand-in for a name that is missing or wrong, so that the static can still be emitted.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let (mut name, mut kind, mut krate) = (None, Kind::Linked, None);
        let (mut empty_is_unset, mut is_secret) = (false, false);
        let parsed = args::parse(tokens, KNOWN, |argument, input| {
            let given = match argument.to_string().as_str() {
                "name" => {
                    name = Some(args::name(argument, input)?.of_option()?);
                    return Ok(());
                }
                "runtime" => Kind::Runtime,
                "dispatcher" => Kind::Dispatcher,
                "empty_is_unset" => {
                    empty_is_unset = true;
                    return Ok(());
                }
                "secret" => {
                    is_secret = true;
                    return Ok(());
                }
                _ => {
                    krate = Some(args::krate(argument, input)?);
                    return Ok(());
                }
            };
            if kind != Kind::Linked {
                return Err(Error::new(argument.span(), "an option is `runtime` or `dispatcher`, not both"));
            }
            kind = given;
            Ok(())
        });
        if errors.take(parsed).is_some() && name.is_none() {
            let error = "`name` is missing: write `#[frame_option(name = \"…\")]`, the option's name in text";
            errors.push(Error::new(Span::call_site(), error));
        }
        let name = name.unwrap_or_else(|| Name::placeholder(Span::call_site()));
        Self { name, kind, empty_is_unset, is_secret, krate }
    }
}
