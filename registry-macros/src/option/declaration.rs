//! The static under the attribute.

use proc_macro2::{Span, TokenStream};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Ident, Result, Token, Type, Visibility};

use crate::args::Errors;

pub(crate) struct Declaration {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    mutability: Option<Token![mut]>,
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    initialiser: Option<Span>,
}

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        input.parse::<Token![static]>()?;
        let mutability = input.parse()?;
        let ident = input.parse()?;
        input.parse::<Token![:]>()?;
        let at = input.span();
        let ty = input
            .parse()
            .map_err(|_| Error::new(at, "expected a type: write `FrameOption<T>`, where `T` is the type of the values"))?;
        let mut initialiser = None;
        if let Some(equals) = input.parse::<Option<Token![=]>>()? {
            initialiser = Some(equals.span);
            while !input.is_empty() && !input.peek(Token![;]) {
                input.parse::<proc_macro2::TokenTree>()?;
            }
        }
        input.parse::<Token![;]>()?;
        input.parse::<TokenStream>()?;
        Ok(Self { attrs, vis, mutability, ident, ty, initialiser })
    }
}

impl Declaration {
    pub(crate) fn check(&self, errors: &mut Errors) {
        if let Some(token) = &self.mutability {
            errors.push(Error::new(token.span, "a frame option is shared by the whole program: remove `mut`"));
        }
        if let Some(span) = self.initialiser {
            errors.push(Error::new(
                span,
                "`#[frame_option]` makes the value: write `static NAME: FrameOption<T>;` without `= …`",
            ));
        }
    }
}
