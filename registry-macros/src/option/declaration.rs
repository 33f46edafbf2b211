//! The static under the attribute.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::ParseStream;
use syn::{Attribute, Error, Ident, Result, Token, Type, Visibility};

use crate::args::Errors;

pub(crate) struct Declaration {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) keyword: Token![static],
    mutability: Option<Token![mut]>,
    pub(crate) ident: Ident,
    /// The type, and where it was a reference, what it referred to.
    pub(crate) ty: Type,
    reference: Option<TokenStream>,
    initialiser: Option<TokenStream>,
    pub(crate) semicolon: Token![;],
}

impl Declaration {
    /// `None` where there is no type: the compiler read the static before the macro did, and has said so.
    pub(crate) fn parse(input: ParseStream<'_>) -> Result<Option<Self>> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let keyword = input.parse()?;
        let mutability = input.parse()?;
        let ident = input.parse()?;
        if !input.peek(Token![:]) {
            input.parse::<TokenStream>()?;
            return Ok(None);
        }
        input.parse::<Token![:]>()?;
        let at = input.span();
        let mut ty = input.parse().map_err(|_| {
            Error::new(at, "expected a type: write `FrameOption<T>`, where `T` is the type of the values")
        })?;
        let mut reference = None;
        if let Type::Reference(borrowed) = ty {
            reference = Some(borrowed.to_token_stream());
            ty = *borrowed.elem;
        }
        let initialiser = if input.peek(Token![=]) { Some(initialiser(input)?) } else { None };
        let semicolon = input.parse()?;
        input.parse::<TokenStream>()?;
        Ok(Some(Self { attrs, vis, keyword, mutability, ident, ty, reference, initialiser, semicolon }))
    }

    pub(crate) fn check(&self, errors: &mut Errors) {
        if let Some(token) = &self.mutability {
            errors.refuse(token, "a frame option is shared by the whole program: remove `mut`");
        }
        if let Some(tokens) = &self.reference {
            errors.refuse(tokens, "a frame option is not behind a reference: write `FrameOption<T>`");
        }
        if let Some(tokens) = &self.initialiser {
            let error =
                "`#[frame_option]` makes the value: write `static NAME: FrameOption<T>;` without `= …`";
            errors.refuse(tokens, error);
        }
    }
}

/// `= …`, up to the `;`.
fn initialiser(input: ParseStream<'_>) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![;]) {
        tokens.extend([input.parse::<TokenTree>()?]);
    }
    Ok(tokens)
}
