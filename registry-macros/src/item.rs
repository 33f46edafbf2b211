//! The item under an attribute: what kind it is, and which of its own attributes hold for what is emitted beside it.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, ExprGroup, ExprLit, Ident, Lit, LitStr, Meta, MetaList, Path, Token, Visibility,
    parse_quote,
};

/// What kind of item `tokens` are, in words, and the token that says so.
pub(crate) fn kind(tokens: &TokenStream) -> (&'static str, Span) {
    let parser = |input: ParseStream<'_>| {
        input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        let span = input.span();
        let kind = kind_after_visibility(input)?;
        input.parse::<TokenStream>()?;
        Ok((kind, span))
    };
    parser.parse2(tokens.clone()).unwrap_or_else(|_| ("something else", tokens.span()))
}

fn kind_after_visibility(input: ParseStream<'_>) -> syn::Result<&'static str> {
    let (mut is_const, mut is_extern) = (false, false);
    // `unsafe` and the others may precede several kinds of items.
    loop {
        if input.peek(Token![const]) {
            input.parse::<Token![const]>()?;
            is_const = true;
        } else if input.peek(Token![extern]) {
            input.parse::<Token![extern]>()?;
            input.parse::<Option<LitStr>>()?;
            is_extern = true;
        } else if input.peek(Token![async]) {
            input.parse::<Token![async]>()?;
        } else if input.peek(Token![unsafe]) {
            input.parse::<Token![unsafe]>()?;
        } else if is_contextual_qualifier(input) {
            input.parse::<Ident>()?;
        } else {
            break;
        }
    }
    Ok(if input.peek(Token![fn]) {
        "a function"
    } else if input.peek(Token![static]) {
        "a static"
    } else if input.peek(Token![struct]) {
        "a struct"
    } else if input.peek(Token![enum]) {
        "an enum"
    } else if input.peek(Token![trait]) {
        "a trait"
    } else if input.peek(Token![impl]) {
        "an impl block"
    } else if input.peek(Token![mod]) {
        "a module"
    } else if input.peek(Token![type]) {
        "a type alias"
    } else if input.peek(Token![use]) {
        "an import"
    } else if is_extern && input.peek(Token![crate]) {
        "an import of a crate"
    } else if is_extern {
        "an `extern` block"
    } else if is_const {
        "a constant"
    } else if input.peek(Token![union]) && input.peek2(Ident) {
        "a union"
    } else if is_macro(input) {
        "a macro"
    } else {
        "something else"
    })
}

/// `safe`, `auto` and `default` are qualifiers only in front of a keyword.
fn is_contextual_qualifier(input: ParseStream<'_>) -> bool {
    let is_one = input
        .fork()
        .parse::<Ident>()
        .is_ok_and(|ident| ["safe", "auto", "default"].iter().any(|qualifier| ident == qualifier));
    is_one
        && (input.peek2(Token![fn])
            || input.peek2(Token![static])
            || input.peek2(Token![trait])
            || input.peek2(Token![impl])
            || input.peek2(Token![const])
            || input.peek2(Token![async])
            || input.peek2(Token![unsafe]))
}

fn is_macro(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    ahead.call(Path::parse_mod_style).is_ok() && ahead.peek(Token![!])
}

/// The first of `attrs` that is the attribute `name` of this crate, by whatever path.
pub(crate) fn find<'a>(attrs: &'a [Attribute], name: &str) -> Option<&'a Attribute> {
    attrs.iter().find(|attr| is_named(attr, name))
}

/// Whether `attr` is the attribute `name` of this crate, by whatever path.
pub(crate) fn is_named(attr: &Attribute, name: &str) -> bool {
    attr.path().segments.last().is_some_and(|segment| segment.ident == name)
}

/// The attributes of an item that hold for what is emitted beside it: conditions, and levels of lints.
pub(crate) fn inherited(attrs: &[Attribute]) -> Vec<TokenStream> {
    let is_inherited =
        |path: &Path| path.is_ident("cfg") || LINT_LEVELS.iter().any(|level| path.is_ident(level));
    // Only the item itself does what is expected.
    mapped(attrs, &|meta| {
        is_inherited(meta.path()).then(|| with_level(meta, "allow").unwrap_or(meta.clone()))
    })
}

/// `#[allow(deprecated)]` if the item with `attrs` is deprecated, for what is emitted and uses it. Otherwise nothing:
/// the user's crate may forbid to allow it.
pub(crate) fn allow_deprecated(attrs: &[Attribute]) -> Vec<TokenStream> {
    mapped(attrs, &|meta| meta.path().is_ident("deprecated").then(|| parse_quote!(allow(deprecated))))
}

/// An attribute that makes a static one which may be unused, also where the user's crate forbids to allow that.
pub(crate) fn unused() -> TokenStream {
    quote!(#[used])
}

/// The word after the attributes and the visibility of an item.
pub(crate) fn first_word(tokens: &TokenStream) -> Option<Ident> {
    let parser = |input: ParseStream<'_>| {
        input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        let word = input.call(Ident::parse_any)?;
        input.parse::<TokenStream>()?;
        Ok(word)
    };
    parser.parse2(tokens.clone()).ok()
}

const LINT_LEVELS: &[&str] = &["allow", "warn", "deny", "forbid", "expect"];

/// The item's own attributes. `expect(dead_code)` becomes `allow(dead_code)`: the table uses the item.
pub(crate) fn own(attrs: &[Attribute]) -> Vec<TokenStream> {
    attrs
        .iter()
        .flat_map(|attr| if is_expectation_of_no_use(attr) { split(attr) } else { vec![quote!(#attr)] })
        .collect()
}

const NO_USE: &[&str] = &["dead_code", "unused"];

fn is_expectation_of_no_use(attr: &Attribute) -> bool {
    attr.path().is_ident("expect")
        && nested(attr)
            .is_ok_and(|lints| lints.iter().any(|lint| NO_USE.iter().any(|it| lint.path().is_ident(it))))
}

/// `#[expect(dead_code, other)]` as `#[allow(dead_code)] #[expect(other)]`.
fn split(attr: &Attribute) -> Vec<TokenStream> {
    let Ok(lints) = nested(attr) else { return vec![quote!(#attr)] };
    let is = |meta: &Meta, names: &[&str]| names.iter().any(|name| meta.path().is_ident(name));
    let (reasons, lints): (Vec<_>, Vec<_>) = lints.into_iter().partition(|meta| is(meta, &["reason"]));
    let (unused, others): (Vec<_>, Vec<_>) = lints.into_iter().partition(|meta| is(meta, NO_USE));
    let mut attrs = vec![quote!(#[allow(#(#unused,)* #(#reasons),*)])];
    if !others.is_empty() {
        attrs.push(quote!(#[expect(#(#others,)* #(#reasons),*)]));
    }
    attrs
}

fn nested(attr: &Attribute) -> syn::Result<Punctuated<Meta, Token![,]>> {
    attr.parse_args_with(Punctuated::parse_terminated)
}

/// `#[expect(…)]` with another level.
fn with_level(meta: &Meta, level: &str) -> Option<Meta> {
    let Meta::List(list) = meta else { return None };
    let ident = list.path.get_ident().filter(|ident| *ident == "expect")?;
    Some(Meta::List(MetaList { path: Ident::new(level, ident.span()).into(), ..list.clone() }))
}

/// The attributes that `map` makes of `attrs`, also of those under a `cfg_attr`.
fn mapped(attrs: &[Attribute], map: &dyn Fn(&Meta) -> Option<Meta>) -> Vec<TokenStream> {
    attrs.iter().filter_map(|attr| mapped_one(attr, map)).collect()
}

fn mapped_one(attr: &Attribute, map: &dyn Fn(&Meta) -> Option<Meta>) -> Option<TokenStream> {
    if !attr.path().is_ident("cfg_attr") {
        return map(&attr.meta).map(|meta| quote!(#[#meta]));
    }
    let mut nested = nested(attr).ok()?.into_iter();
    let predicate = nested.next()?;
    let attrs: Vec<_> = nested.filter_map(|meta| map(&meta)).collect();
    Some(quote!(#(#[cfg_attr(#predicate, #attrs)])*))
}

/// The documentation comment as an expression: its lines, without the marks of a comment and their common indentation.
pub(crate) fn doc(attrs: &[Attribute]) -> TokenStream {
    let parts: Vec<_> = attrs.iter().filter_map(doc_part).collect();
    let mut texts: Vec<String> = parts
        .iter()
        .filter_map(|part| match part {
            DocPart::Text(text) => Some(text.clone()),
            DocPart::Expression(_) => None,
        })
        .collect();
    unindent(&mut texts);
    if texts.len() == parts.len() {
        return Literal::string(texts.join("\n").trim_matches('\n')).into_token_stream();
    }
    let mut texts = texts.iter();
    let mut pieces = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            pieces.push(quote!("\n"));
        }
        pieces.push(match part {
            DocPart::Text(_) => texts.next().map(|text| Literal::string(text)).into_token_stream(),
            DocPart::Expression(expression) => quote!(#expression),
        });
    }
    quote!(::core::concat!(#(#pieces),*))
}

enum DocPart {
    Text(String),
    /// Such as `#[doc = include_str!("…")]`: text that the compiler makes.
    Expression(Expr),
}

fn doc_part(attr: &Attribute) -> Option<DocPart> {
    let Meta::NameValue(pair) = &attr.meta else { return None };
    if !pair.path.is_ident("doc") {
        return None;
    }
    let mut value = &pair.value;
    // One that came through a `macro_rules!`.
    while let Expr::Group(ExprGroup { expr, .. }) = value {
        value = expr;
    }
    Some(match value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => DocPart::Text(doc_text(text)),
        other => DocPart::Expression(other.clone()),
    })
}

fn doc_text(literal: &LitStr) -> String {
    let text = literal.value();
    let is_block = literal.span().source_text().is_some_and(|source| source.starts_with("/*"));
    if is_block { block_text(&text) } else { text }
}

/// The text of a block comment as one of line comments would have it: without the column of stars, and with one space
/// before each line.
fn block_text(text: &str) -> String {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().trim_start().to_owned();
    let mut rest: Vec<&str> = lines.collect();
    // The last line may have nothing but the end of the comment on it.
    let is_starred = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('*');
    if rest.iter().all(is_starred) {
        for line in &mut rest {
            *line = line.trim_start().trim_start_matches('*');
        }
    }
    let mut rest = [rest.join("\n")];
    unindent(&mut rest);
    let lines = std::iter::once(first.as_str()).chain(rest[0].lines());
    lines.map(|line| format!(" {line}")).collect::<Vec<_>>().join("\n")
}

/// Removes the indentation that all lines have, and the spaces at their ends.
fn unindent(texts: &mut [String]) {
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty());
    let common = lines.map(|line| line.len() - line.trim_start_matches(' ').len()).min().unwrap_or(0);
    for text in texts {
        let lines = text.lines().map(|line| line.get(common..).unwrap_or_default().trim_end());
        *text = lines.collect::<Vec<_>>().join("\n");
    }
}
