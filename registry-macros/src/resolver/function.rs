//! The function under the attribute.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Result, Signature, Visibility};

use crate::item;

/// A function whose body is not looked into: while it is half typed the rest still works in an editor.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    body: TokenTree,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Ok(Self {
            attrs: input.call(Attribute::parse_outer)?,
            vis: input.parse()?,
            sig: input.parse()?,
            body: input.parse()?,
        })
    }
}

impl Function {
    /// Whether it is not one that is only declared, in a trait or in an `extern` block.
    pub(crate) fn has_body(&self) -> bool {
        matches!(self.body, TokenTree::Group(_))
    }

    /// The function as it stands beside an error, with nothing that leads to a second error or a warning.
    pub(crate) fn refused(&self) -> TokenStream {
        let Self { attrs, vis, sig, body } = self;
        let mut sig = sig.clone();
        sig.variadic = None;
        quote! {
            #[allow(dead_code, unused, clippy::all)]
            #(#attrs)* #vis #sig #body
        }
    }
}

impl ToTokens for Function {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Self { attrs, vis, sig, body } = self;
        let attrs = item::own(attrs);
        tokens.extend(quote! {
            // The `Result` is what every resolver returns. First, so that the user's own levels win.
            #[allow(clippy::unnecessary_wraps)]
            #(#attrs)* #vis #sig #body
        });
    }
}
