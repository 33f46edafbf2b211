//! The arguments of an attribute: `name = value`, `name(…)` or `name`, separated by commas.

use std::fmt::Display;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Ident, LitStr, Path, Result, Token};

use crate::name::Name;

/// An argument that an attribute knows.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// An example, for errors.
    pub(crate) example: &'static str,
}

/// Reads `tokens`, handing each argument's name and what follows it to `read`. An argument that is unknown or given
/// twice, or that `read` does not take in whole, is an error; all of them are reported.
pub(crate) fn parse(
    tokens: TokenStream,
    known: &[Known],
    mut read: impl FnMut(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    let parser = |input: ParseStream<'_>| {
        let mut seen: Vec<String> = Vec::new();
        let mut errors = Errors::default();
        while !input.is_empty() {
            if let Err(error) = parse_one(input, known, &mut seen, &mut read) {
                errors.push(error);
                skip_to_comma(input)?;
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        errors.into_result()
    };
    parser.parse2(tokens)
}

fn parse_one(
    input: ParseStream<'_>,
    known: &[Known],
    seen: &mut Vec<String>,
    read: &mut impl FnMut(&Ident, ParseStream<'_>) -> Result<()>,
) -> Result<()> {
    if !input.peek(Ident::peek_any) {
        return Err(input.error(format!("expected an argument: {}", examples(known))));
    }
    let name = input.call(Ident::parse_any)?;
    let text = name.to_string();
    let Some(argument) = known.iter().find(|argument| argument.name == text) else {
        return Err(Error::new(name.span(), unknown(&text, known)));
    };
    if seen.contains(&text) {
        return Err(Error::new(name.span(), format!("`{text}` specified more than once")));
    }
    seen.push(text);
    read(&name, input)?;
    if is_at_end(input) {
        return Ok(());
    }
    if input.peek(Ident::peek_any) {
        return Err(input.error("expected `,` before this argument"));
    }
    Err(input.error(format!("expected `,` or the end of the arguments: write `{}`", argument.example)))
}

/// Leaves the rest of an argument that was refused, so that those after it are checked too.
fn skip_to_comma(input: ParseStream<'_>) -> Result<()> {
    while !is_at_end(input) {
        input.parse::<proc_macro2::TokenTree>()?;
    }
    Ok(())
}

fn unknown(text: &str, known: &[Known]) -> String {
    let nearest = known
        .iter()
        .map(|argument| (strsim::damerau_levenshtein(text, argument.name), argument))
        .filter(|(distance, _)| *distance <= 2)
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        Some((_, argument)) => {
            format!("unknown argument `{text}`; did you mean `{}`?", argument.example)
        }
        None => format!("unknown argument `{text}`; known are {}", examples(known)),
    }
}

fn examples(known: &[Known]) -> String {
    known.iter().map(|argument| format!("`{}`", argument.example)).collect::<Vec<_>>().join(", ")
}

/// `= "name"`.
pub(crate) fn name(argument: &Ident, input: ParseStream<'_>) -> Result<Name> {
    Name::of_literal(&name_literal(argument, input)?)
}

/// `= "name.of.parts"`.
pub(crate) fn key_name(argument: &Ident, input: ParseStream<'_>) -> Result<Name> {
    Name::of_key(&name_literal(argument, input)?)
}

fn name_literal(argument: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    expect_equals(argument, input, "name = \"…\"")?;
    if !input.peek(LitStr) {
        return Err(input.error("the name is a string literal: write `name = \"…\"`"));
    }
    input.parse()
}

/// `= path`.
pub(crate) fn krate(argument: &Ident, input: ParseStream<'_>) -> Result<Path> {
    expect_equals(argument, input, "crate = path::to::frame_registry")?;
    let at = input.span();
    input
        .call(Path::parse_mod_style)
        .map_err(|_| Error::new(at, "expected a path: write `crate = path::to::frame_registry`"))
}

/// The `=` of an argument that has a value, and that there is a value.
pub(crate) fn expect_equals(argument: &Ident, input: ParseStream<'_>, example: &str) -> Result<()> {
    // At the argument: the end of the input is the whole attribute, and says nothing.
    let no_value =
        || Err(Error::new(argument.span(), format!("`{argument}` needs a value: write `{example}`")));
    if is_at_end(input) {
        return no_value();
    }
    if !input.peek(Token![=]) {
        return Err(input.error(format!("expected `=`: write `{example}`")));
    }
    input.parse::<Token![=]>()?;
    if is_at_end(input) { no_value() } else { Ok(()) }
}

/// Whether an argument ends here.
pub(crate) fn is_at_end(input: ParseStream<'_>) -> bool {
    input.is_empty() || input.peek(Token![,])
}

/// Errors of one item, reported together.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// Underlines all of `tokens`, from the first to the last.
    pub(crate) fn refuse(&mut self, tokens: impl ToTokens, why: impl Display) {
        self.push(Error::new_spanned(tokens, why));
    }

    /// The value, or the place to say that there is none.
    pub(crate) fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    pub(crate) fn into_compile_error(self) -> Option<TokenStream> {
        self.0.map(Error::into_compile_error)
    }

    pub(crate) fn into_result(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
