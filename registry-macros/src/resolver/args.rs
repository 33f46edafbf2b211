//! The arguments of `#[frame_resolver]`.

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{
    Error, Expr, ExprGroup, ExprLit, ExprUnary, Ident, Lit, LitInt, Path, Result, Token, UnOp, parenthesized,
};

use super::function::Function;
use crate::args::{self, Errors, Known};
use crate::name::Name;

pub(crate) struct ResolverArgs {
    pub(crate) order: i32,
    pub(crate) name: Name,
    pub(crate) covers: Vec<Path>,
    pub(crate) krate: Option<Path>,
}

const KNOWN: &[Known] = &[
    Known { name: "order", example: "order = 200" },
    Known { name: "name", example: "name = \"…\"" },
    Known { name: "covers", example: "covers(OPTION)" },
    Known { name: "crate", example: "crate = path::to::frame_registry" },
];

impl ResolverArgs {
    pub(crate) fn parse(tokens: TokenStream, function: &Function) -> Result<Self> {
        let (mut order, mut name, mut covers, mut krate) = (None, None, Vec::new(), None);
        let mut is_order_given = false;
        let mut errors = Errors::default();
        let parsed = args::parse(tokens, KNOWN, |argument, input| {
            match argument.unraw().to_string().as_str() {
                "order" => {
                    is_order_given = true;
                    order = Some(parse_order(argument, input)?);
                }
                "name" => name = Some(args::name(argument, input)?),
                "covers" => covers = parse_covers(argument, input)?,
                _ => krate = Some(args::krate(argument, input)?),
            }
            Ok(())
        });
        // A name that is wrong is not also taken from the function.
        let is_fine = parsed.is_ok();
        errors.take(parsed);
        if is_fine && !is_order_given {
            let error =
                "`order` is missing: write `#[frame_resolver(order = 200)]`; the lowest order runs first";
            errors.push(Error::new(Span::call_site(), error));
        }
        let name = match name {
            Some(name) => Some(name),
            None if is_fine => errors.take(Name::of_function(&function.sig.ident)),
            None => None,
        };
        errors.into_result()?;
        let (Some(order), Some(name)) = (order, name) else {
            unreachable!("without an error both are there")
        };
        Ok(Self { order, name, covers, krate })
    }
}

/// `= 200`, `= -5`.
fn parse_order(argument: &Ident, input: ParseStream<'_>) -> Result<i32> {
    const NOT_A_LITERAL: &str =
        "the order is an integer literal, because it becomes the linker's sort key: write `order = 200`";

    args::expect_equals(argument, input, "order = 200")?;
    let at = input.span();
    let value: Expr = input.parse().map_err(|_| Error::new(at, NOT_A_LITERAL))?;
    let Some((sign, literal)) = integer(&value) else {
        return Err(Error::new_spanned(value, NOT_A_LITERAL));
    };
    if !matches!(literal.suffix(), "" | "i32") {
        let error = format!(
            "the order is an `i32`, not a `{}`: write `{sign}{literal_digits}`",
            literal.suffix(),
            literal_digits = literal.base10_digits()
        );
        return Err(Error::new_spanned(value, error));
    }
    format!("{sign}{}", literal.base10_digits()).parse().map_err(|_| {
        let error = format!("the order is out of range: it is an `i32`, from {} to {}", i32::MIN, i32::MAX);
        Error::new_spanned(&value, error)
    })
}

/// The sign and the digits, if `value` is an integer literal. One that came through a `macro_rules!` is in a group.
fn integer(value: &Expr) -> Option<(&'static str, &LitInt)> {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Int(literal), .. }) => Some(("", literal)),
        Expr::Group(ExprGroup { expr, .. }) => integer(expr),
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => match integer(expr)? {
            ("", literal) => Some(("-", literal)),
            _ => None,
        },
        _ => None,
    }
}

/// `(OPTION, path::OTHER)`.
fn parse_covers(argument: &Ident, input: ParseStream<'_>) -> Result<Vec<Path>> {
    if args::is_at_end(input) {
        return Err(Error::new(argument.span(), "`covers` names no option: write `covers(OPTION)`"));
    }
    if !input.peek(syn::token::Paren) {
        return Err(input.error("expected the options in parentheses: write `covers(OPTION)`"));
    }
    let content;
    let parens = parenthesized!(content in input);
    let paths = content.parse_terminated(parse_option, Token![,])?;
    if paths.is_empty() {
        return Err(Error::new(
            parens.span.join(),
            "`covers` names no option: write `covers(OPTION)`, or leave it out",
        ));
    }
    let mut covers: Vec<Path> = Vec::new();
    for path in paths {
        if covers.iter().any(|other| segments(other) == segments(&path)) {
            return Err(Error::new_spanned(path, "this option is covered already; name it once"));
        }
        covers.push(path);
    }
    Ok(covers)
}

fn parse_option(input: ParseStream<'_>) -> Result<Path> {
    let at = input.span();
    let error = "expected the path of an option's static: write `covers(OPTION)`";
    input.call(Path::parse_mod_style).map_err(|_| Error::new(at, error))
}

/// The segments of a path, by which two paths of one scope are compared: `self::OPTION` is `OPTION`.
pub(crate) fn segments(path: &Path) -> Vec<String> {
    let names = path.segments.iter().map(|segment| segment.ident.unraw().to_string());
    let skipped = usize::from(path.segments.len() > 1 && path.segments[0].ident == "self");
    path.leading_colon.iter().map(|_| String::new()).chain(names.skip(skipped)).collect()
}
