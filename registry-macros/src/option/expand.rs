//! What a static under `#[frame_option]` becomes.

use proc_macro2::{Literal, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{PathArguments, Type};

use super::args::{Args, Kind};
use super::declaration::Declaration;
use crate::item;
use crate::paths::{Place, at, private, require_here, where_link_guarded};

/// The static, and its entry in the list of declared options. One that was refused stays a static of its type, so
/// that what uses it compiles.
pub(crate) fn expand(args: &Args, declaration: &Declaration, is_refused: bool) -> TokenStream {
    let private = &private(args.krate.as_ref());
    let Declaration { attrs, vis, keyword, ident, ty, semicolon, .. } = declaration;
    let name = Literal::string(&args.name.text);
    let doc = Literal::string(&item::doc(attrs));
    let type_name = Literal::string(&value_type(ty));
    let empty_is_unset = args.empty_is_unset;
    let (kind, covered_by) = match args.kind {
        Kind::Linked if is_refused => (quote!(Linked), quote!(::core::option::Option::None)),
        Kind::Linked => (quote!(Linked), covered_by(private, args)),
        Kind::Runtime => (quote!(Runtime), quote!(::core::option::Option::None)),
        Kind::Plain => (quote!(Plain), quote!(::core::option::Option::None)),
    };
    let parser = parser(args, private, ty);
    let conditions = item::conditions(attrs);
    let (export, listed) = if is_refused {
        (quote!(#[allow(dead_code)]), TokenStream::new())
    } else {
        (export(args), listed(args, private, declaration, &conditions))
    };

    let parts = quote! {
        #private::OptionParts {
            name: #name,
            type_name: #type_name,
            kind: #private::OptionKind::#kind,
            empty_is_unset: #empty_is_unset,
            doc: #doc,
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: ::core::line!(),
            parser: #parser,
            covered_by: #covered_by,
        }
    };
    let value = checked(args, ty, Place::of(ty).put_call(quote!(#private::frame_option), parts));
    quote! {
        #(#attrs)*
        #export
        #vis #keyword #ident: #ty = #value #semicolon
        #listed
    }
}

/// `value`, if the type of the static is one of a declaration. Where it is not, that is the same error wherever this
/// stands, and the compiler shows it once.
fn checked(args: &Args, ty: &Type, value: TokenStream) -> TokenStream {
    Place::of(ty).put_check(args.krate.as_ref(), "checked", ty, value)
}

/// The `T` of `FrameOption<T>`, as the user wrote it; all of the type where that is an alias.
fn value_type(ty: &Type) -> String {
    let last = match ty {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    };
    let written = match last.map(|segment| &segment.arguments) {
        Some(PathArguments::AngleBracketed(arguments)) => arguments.args.to_token_stream(),
        _ => ty.to_token_stream(),
    };
    // The tokens, without the spaces that nobody writes between them.
    let spaces = [
        (" :: ", "::"),
        (":: ", "::"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        ("& ", "&"),
        (" ,", ","),
        (" (", "("),
    ];
    spaces.iter().fold(written.to_string(), |text, (spaced, tight)| text.replace(spaced, tight))
}

/// What reads the option from text, if its type can be. That `Deserialize` is not implemented for a reference of
/// every lifetime is an error, and not something to choose by.
fn parser(args: &Args, private: &TokenStream, ty: &Type) -> TokenStream {
    if has_reference(ty.to_token_stream()) {
        return quote!(::core::option::Option::None);
    }
    // Where the path has the user's tokens in it, the lint would speak of them.
    let allow = args.krate.is_some().then(|| quote!(#[allow(unused_imports)]));
    quote! {
        {
            #allow
            use #private::NoReader as _;
            #private::DeclaredReader::<#ty>::PARSER
        }
    }
}

fn has_reference(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => has_reference(group.stream()),
        TokenTree::Punct(punct) => punct.as_char() == '&',
        _ => false,
    })
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
            unsafe extern "C" {
                #[link_name = #symbol]
                safe static __FRAME_OPTION_COVERED_BY: &'static #private::LinkedResolver;
            }
            ::core::option::Option::Some(&__FRAME_OPTION_COVERED_BY)
        }
    };
    where_link_guarded(private, &guarded, &quote!(::core::option::Option::None))
}

fn listed(
    args: &Args,
    private: &TokenStream,
    declaration: &Declaration,
    conditions: &[TokenStream],
) -> TokenStream {
    let Declaration { ident, ty, .. } = declaration;
    // The option itself, too: another library's of the same name must not take its place.
    let mut here = vec![args.name.option_symbol()];
    if args.kind == Kind::Linked {
        here.push(args.name.covered_option_symbol());
    }
    let required_here = where_link_guarded(private, &require_here(&here), &TokenStream::new());
    let option = checked(args, ty, quote!(&#ident));
    quote! {
        #(#conditions)*
        const _: () = {
            #[#private::linkme::distributed_slice(#private::OPTIONS)]
            #[linkme(crate = #private::linkme)]
            static __FRAME_OPTION: #private::ListedOption =
                #private::listed_option(#option, ::core::file!(), ::core::line!());
            #required_here
        };
    }
}
