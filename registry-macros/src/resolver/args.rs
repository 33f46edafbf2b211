//! The arguments of `#[frame_resolver]`.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Error, Expr, LitInt, Path, Result, Token, parenthesized};

use super::function::Function;
use crate::args::{self, Errors, Known};
use crate::name::Name;

pub(crate) struct Args {
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

impl Args {
    pub(crate) fn parse(tokens: TokenStream, function: &Function) -> Result<Self> {
        let (mut order, mut name, mut covers, mut krate) = (None, None, Vec::new(), None);
        let mut is_order_given = false;
        let mut errors = Errors::default();
        let parsed = args::parse(tokens, KNOWN, |argument, input| {
            match argument.unraw().to_string().as_str() {
                "order" => {
                    is_order_given = true;
                    order = Some(parse_order(input)?);
                }
                "name" => name = Some(args::name(input)?),
                "covers" => covers = parse_covers(input)?,
                _ => krate = Some(args::krate(input)?),
            }
            Ok(())
        });
        // A name that is wrong is not also taken from the function.
        let is_fine = parsed.is_ok();
        errors.take(parsed);
        if is_fine && !is_order_given {
            let error = "`order` is missing: write `#[frame_resolver(order = 200)]`; the lowest order runs first";
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
fn parse_order(input: ParseStream<'_>) -> Result<i32> {
    args::expect_equals(input, "order = 200")?;
    if input.is_empty() || input.peek(Token![,]) {
        return Err(input.error("the order is missing: write `order = 200`"));
    }
    let literal = input.fork();
    literal.parse::<Option<Token![-]>>()?;
    let is_literal = literal.parse::<LitInt>().is_ok() && (literal.is_empty() || literal.peek(Token![,]));
    if !is_literal {
        let other: Expr = input.parse()?;
        return Err(Error::new_spanned(
            other,
            "the order is an integer literal, because it becomes the linker's sort key: write `order = 200`",
        ));
    }
    let sign: Option<Token![-]> = input.parse()?;
    let literal: LitInt = input.parse()?;
    let span = sign.map_or(literal.span(), |sign| sign.span.join(literal.span()).unwrap_or(literal.span()));
    if !matches!(literal.suffix(), "" | "i32") {
        return Err(Error::new(span, format!("the order is an `i32`, not a `{}`", literal.suffix())));
    }
    let sign = if sign.is_some() { "-" } else { "" };
    format!("{sign}{}", literal.base10_digits()).parse().map_err(|_| {
        Error::new(span, format!("the order is out of range: it is an `i32`, from {} to {}", i32::MIN, i32::MAX))
    })
}

/// `(OPTION, path::OTHER)`.
fn parse_covers(input: ParseStream<'_>) -> Result<Vec<Path>> {
    if !input.peek(syn::token::Paren) {
        return Err(input.error("expected the options in parentheses: write `covers(OPTION)`"));
    }
    let content;
    let parens = parenthesized!(content in input);
    let paths = content.parse_terminated(Path::parse_mod_style, Token![,])?;
    if paths.is_empty() {
        return Err(Error::new(parens.span.join(), "`covers` names no option: write `covers(OPTION)`, or leave it out"));
    }
    let mut covers: Vec<Path> = Vec::new();
    for path in paths {
        let text = path.to_token_stream().to_string();
        if covers.iter().any(|other| other.to_token_stream().to_string() == text) {
            return Err(Error::new_spanned(path, "this option is covered already; name it once"));
        }
        covers.push(path);
    }
    Ok(covers)
}
