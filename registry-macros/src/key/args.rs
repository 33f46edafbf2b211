//! The arguments of `#[frame_key]`.

use proc_macro2::{Span, TokenStream};
use syn::{Error, Ident, Path};

use crate::args::{self, Errors, Known};
use crate::name::Name;

pub(crate) struct KeyArgs {
    pub(crate) name: Name,
    pub(crate) boundary: Boundary,
    /// `inherit` or `inherit_forked`, as the user wrote it.
    pub(crate) inherit: Option<Ident>,
    pub(crate) secret: Option<Ident>,
    pub(crate) public: Option<Ident>,
    pub(crate) krate: Option<Path>,
}

/// What happens at the boundary of a node.
pub(crate) enum Boundary {
    /// `propagates`, as the user wrote it.
    Propagates(Ident),
    Stays,
}

const KNOWN: &[Known] = &[
    Known { name: "name", example: "name = \"…\"" },
    Known { name: "propagates", example: "propagates" },
    Known { name: "stays", example: "stays" },
    Known { name: "inherit", example: "inherit" },
    Known { name: "inherit_forked", example: "inherit_forked" },
    Known { name: "public", example: "public" },
    Known { name: "secret", example: "secret" },
    Known { name: "crate", example: "crate = path::to::frame_registry" },
];

impl KeyArgs {
    /// The arguments, with stand-ins for what is missing or wrong, so that the static can still be emitted.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let (mut name, mut boundary, mut krate) = (None, None, None);
        let (mut inherit, mut secret, mut public): (Option<Ident>, _, _) = (None, None, None);
        let parsed = args::parse(tokens, KNOWN, |argument, input| {
            match argument.to_string().as_str() {
                "name" => name = Some(args::key_name(argument, input)?),
                "propagates" | "stays" if boundary.is_some() => {
                    return Err(Error::new(argument.span(), "a key `propagates` or `stays`, not both"));
                }
                "propagates" => boundary = Some(Boundary::Propagates(argument.clone())),
                "stays" => boundary = Some(Boundary::Stays),
                "inherit" | "inherit_forked" if inherit.is_some() => {
                    return Err(Error::new(argument.span(), "write `inherit` or `inherit_forked`, not both"));
                }
                "inherit" | "inherit_forked" => inherit = Some(argument.clone()),
                "secret" => secret = Some(argument.clone()),
                "public" => public = Some(argument.clone()),
                _ => krate = Some(args::krate(argument, input)?),
            }
            Ok(())
        });
        if errors.take(parsed).is_some() {
            check(name.as_ref(), boundary.as_ref(), inherit.as_ref(), errors);
        }
        let name = name.unwrap_or_else(|| Name::placeholder(Span::call_site()));
        let boundary = boundary.unwrap_or(Boundary::Stays);
        Self { name, boundary, inherit, secret, public, krate }
    }
}

fn check(name: Option<&Name>, boundary: Option<&Boundary>, inherit: Option<&Ident>, errors: &mut Errors) {
    let mut missing = |error: &str| errors.push(Error::new(Span::call_site(), error));
    match (name, boundary) {
        (None, None) => {
            missing(
                "`name` is missing: write `#[frame_key(name = \"…\", stays)]`, or `propagates, inherit` in place of `stays`",
            );
        }
        (None, Some(_)) => {
            missing("`name` is missing: write `name = \"…\"`, the key's name on the wire and for scripts");
        }
        (Some(_), None) => missing(
            "what happens to the key between nodes is missing: write `propagates`, or `stays` if its values mean \
             nothing on another node",
        ),
        (Some(_), Some(_)) => {}
    }
    if let (Some(Boundary::Propagates(propagates)), None) = (boundary, inherit) {
        let error = "only what a child frame inherits propagates: add `inherit` or `inherit_forked`";
        errors.push(Error::new(propagates.span(), error));
    }
}
