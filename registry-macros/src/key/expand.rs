//! What a static under `#[frame_key]` becomes.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::{quote, quote_spanned};
use syn::Type;

use super::args::{Boundary, KeyArgs};
use crate::declaration::{Declaration, value_type};
use crate::item;
use crate::name::READER_SYMBOL;
use crate::paths::{
    NO_PLACE, Place, assembly, at, emit, fresh, private, require_here_lines, unique, where_link_guarded,
};

/// The static, and its entry in the list of declared keys. One that was refused stays a static of its type, so that what
/// uses it compiles.
pub(crate) fn expand(args: &KeyArgs, declaration: &Declaration, is_refused: bool) -> TokenStream {
    if declaration.is_other_thing {
        return declaration.without_value();
    }
    let private = &private(args.krate.as_ref());
    let Declaration { attrs, vis, keyword, ident, ty, semicolon, .. } = declaration;
    let name = Literal::string(&args.name.text);
    let (attributes, value) = if is_refused {
        let refused = Place::of(ty).put_call(quote!(#private::refused_key), quote!(#name));
        (item::unused(), emit(private, &checked(args, ty, refused)))
    } else {
        let listed = listed(args, private, declaration);
        let value = value(args, private, declaration, &name);
        (TokenStream::new(), emit(private, &quote!({ #listed #value })))
    };
    let attrs = item::own(attrs);
    quote! {
        #(#attrs)*
        #attributes
        #vis #keyword #ident: #ty = #value #semicolon
    }
}

fn value(args: &KeyArgs, private: &TokenStream, declaration: &Declaration, name: &Literal) -> TokenStream {
    let Declaration { attrs, ty, .. } = declaration;
    let doc = item::doc(attrs);
    let type_name = Literal::string(&value_type(ty));
    let (function, wire) = match &args.boundary {
        Boundary::Propagates(propagates) => (quote!(propagating_key), wire(args, private, ty, propagates)),
        Boundary::Stays => (quote!(frame_key), quote!(::core::option::Option::None)),
    };
    let parts = quote! {
        #private::KeyParts {
            name: #name,
            type_name: #type_name,
            doc: #doc,
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: ::core::line!(),
            wire: #wire,
        }
    };
    let mut value = Place::of(ty).put_call(quote!(#private::#function), parts);
    for method in [&args.inherit, &args.secret].into_iter().flatten() {
        value.extend(call(method));
    }
    if let Some(public) = &args.public {
        let with_json = call(public);
        let without_json = needs_json(public);
        value = quote!(#private::where_json! { { #value #with_json } else { #without_json } });
    }
    checked(args, ty, value)
}

/// `.method()`, at the argument of that name: the methods are those that build a `Key` by hand.
fn call(method: &Ident) -> TokenStream {
    let name = Ident::new(&method.to_string(), at(method.span()));
    quote_spanned!(at(method.span())=> .#name())
}

/// How values cross to another node, if their type can.
fn wire(args: &KeyArgs, private: &TokenStream, ty: &Type, propagates: &Ident) -> TokenStream {
    let wire = Place::of(ty).put_check(args.krate.as_ref(), "wire", ty, quote!(()));
    let without_json = needs_json(propagates);
    quote!(#private::where_json! { { ::core::option::Option::Some(#wire) } else { #without_json } })
}

fn needs_json(argument: &Ident) -> TokenStream {
    let error = format!("`{argument}` needs the feature `json` of `frame-registry`");
    quote_spanned!(argument.span()=> ::core::compile_error!(#error))
}

/// `value`, if the type of the static is one of a key. Where it is not, that is the same error wherever this stands, and
/// the compiler shows it once.
fn checked(args: &KeyArgs, ty: &Type, value: TokenStream) -> TokenStream {
    Place::of(ty).put_check(args.krate.as_ref(), "checked_key", ty, value)
}

fn listed(args: &KeyArgs, private: &TokenStream, declaration: &Declaration) -> TokenStream {
    let Declaration { attrs, ident, ty, .. } = declaration;
    let allow_deprecated = item::allow_deprecated(attrs);
    let symbol = args.name.unique_key_symbol();
    let unique =
        unique(private, &fresh("__FRAME_KEY_IS_UNIQUE", quote!(#ident #ty)), &symbol, args.name.span);
    // A shared library has no reason to export the guard. The key has a name of its own, by which programs find it there.
    let lines: Vec<_> =
        [format!(".hidden {symbol}")].into_iter().chain(require_here_lines(READER_SYMBOL)).collect();
    let guards = where_link_guarded(private, &assembly(NO_PLACE, &lines, &[]), &TokenStream::new());
    let listed = fresh("__FRAME_KEY", quote!(#ident #ty));
    let key = checked(args, ty, quote!(&#ident));
    quote! {
        #(#allow_deprecated)*
        #[#private::linkme::distributed_slice(#private::KEYS)]
        #[linkme(crate = #private::linkme)]
        static #listed: #private::ListedKey =
            #private::listed_key(#key, ::core::file!(), ::core::line!());
        #unique
        #guards
    }
}
