//! Paths and spans of what is emitted.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::Path;

/// The path of `frame_registry::__private`.
pub(crate) fn private(krate: Option<&Path>) -> TokenStream {
    match krate {
        Some(path) => quote!(#path::__private),
        None => quote!(::frame_registry::__private),
    }
}

/// A span that points at the user's tokens, but whose tokens are the macro's own: a lint of the user's crate, such
/// as `unsafe_code`, does not speak of them.
pub(crate) fn at(user: Span) -> Span {
    Span::call_site().located_at(user)
}

/// Emits `guarded` where the linker guards the wiring, and `otherwise` elsewhere.
pub(crate) fn where_link_guarded(
    private: &TokenStream,
    guarded: &TokenStream,
    otherwise: &TokenStream,
) -> TokenStream {
    let span = Span::call_site();
    quote_spanned!(span=> #private::where_link_guarded! { { #guarded } else { #otherwise } })
}
