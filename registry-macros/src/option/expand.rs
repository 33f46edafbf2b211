//! What a static under `#[frame_option]` becomes.

use proc_macro2::{Literal, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use super::args::{Args, Kind};
use super::declaration::Declaration;
use crate::item;
use crate::paths::{at, private, where_link_guarded};

/// The static, and its entry in the list of declared options. One that was refused stays a static of its type, so
/// that what uses it compiles.
pub(crate) fn expand(args: &Args, declaration: &Declaration, is_refused: bool) -> TokenStream {
    let private = &private(args.krate.as_ref());
    let Declaration { attrs, vis, ident, ty, .. } = declaration;
    let name = Literal::string(&args.name.text);
    let doc = Literal::string(&item::doc(attrs));
    let (kind, covered_by) = match args.kind {
        Kind::Linked if is_refused => (quote!(Linked), quote!(::core::option::Option::None)),
        Kind::Linked => (quote!(Linked), covered_by(private, args)),
        Kind::Runtime => (quote!(Runtime), quote!(::core::option::Option::None)),
        Kind::Plain => (quote!(Plain), quote!(::core::option::Option::None)),
    };
    let value = quote_spanned!(at(ty.span())=> <#ty as #private::IsDeclaration>::Value);
    let declare = quote_spanned!(at(ty.span())=> #private::frame_option::<#value>);
    let conditions = item::conditions(attrs);
    let (export, listed) = if is_refused {
        (quote!(#[allow(dead_code)]), TokenStream::new())
    } else {
        (export(args), listed(private, declaration, &conditions))
    };

    quote! {
        #(#attrs)*
        #export
        #vis static #ident: #ty = #declare(#private::OptionParts {
            name: #name,
            kind: #private::OptionKind::#kind,
            doc: #doc,
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: ::core::line!(),
            parser: {
                #[allow(unused_imports)]
                use #private::NoReader as _;
                #private::Reader::<#value>::PARSER
            },
            covered_by: #covered_by,
        });
        #listed
    }
}

/// The static's symbol. A second option of the name is a link error, and the assembly of a resolver that covers the
/// option makes the symbol in [`covered_by`] of it.
fn export(args: &Args) -> TokenStream {
    let symbol = args.name.option_symbol();
    quote_spanned! {at(args.name.span)=>
        // SAFETY: the name is one that only this macro makes.
        #[unsafe(export_name = #symbol)]
    }
}

/// The resolver that covers the option: a symbol that is undefined, in plain words, where none is linked.
fn covered_by(private: &TokenStream, args: &Args) -> TokenStream {
    let symbol = args.name.covered_option_symbol();
    let guarded = quote! {
        {
            // SAFETY: only the assembly of `#[frame_resolver]` defines the symbol, as the address of a resolver.
            #[allow(improper_ctypes)]
            unsafe extern "C" {
                #[link_name = #symbol]
                safe static __FRAME_OPTION_COVERED_BY: &'static #private::LinkedResolver;
            }
            ::core::option::Option::Some(&__FRAME_OPTION_COVERED_BY)
        }
    };
    where_link_guarded(private, &guarded, &quote!(::core::option::Option::None))
}

fn listed(private: &TokenStream, declaration: &Declaration, conditions: &[TokenStream]) -> TokenStream {
    let ident = &declaration.ident;
    quote! {
        #(#conditions)*
        const _: () = {
            #[#private::linkme::distributed_slice(#private::OPTIONS)]
            #[linkme(crate = #private::linkme)]
            static __FRAME_OPTION: #private::ListedOption =
                #private::listed_option(#ident.declared(), ::core::file!(), ::core::line!());
        };
    }
}
