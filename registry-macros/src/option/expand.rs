//! What a static under `#[frame_option]` becomes.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::Type;

use super::args::{Kind, OptionArgs};
use crate::declaration::{Declaration, value_type};
use crate::item;
use crate::name::READER_SYMBOL;
use crate::paths::{
    NO_PLACE, Place, assembly, at, emit, fresh, private, require_here, require_here_lines, where_link_guarded,
};

/// The static, and its entry in the list of declared options. One that was refused stays a static of its type, so
/// that what uses it compiles.
pub(crate) fn expand(args: &OptionArgs, declaration: &Declaration, is_refused: bool) -> TokenStream {
    if declaration.is_other_thing {
        return declaration.without_value();
    }
    let private = &private(args.krate.as_ref());
    let Declaration { attrs, vis, keyword, ident, ty, semicolon, .. } = declaration;
    let OptionArgs { empty_is_unset, is_secret, .. } = args;
    let name = Literal::string(&args.name.text);
    let doc = item::doc(attrs);
    let type_name = Literal::string(&value_type(ty));
    let (kind, covered_by) = match args.kind {
        Kind::Linked if is_refused => (quote!(Linked), quote!(::core::option::Option::None)),
        Kind::Linked => (quote!(Linked), covered_by(private, args, ty)),
        Kind::Runtime => (quote!(Runtime), quote!(::core::option::Option::None)),
        Kind::Dispatcher => (quote!(Dispatcher), quote!(::core::option::Option::None)),
    };
    let can = |constant| if_implemented(args, private, ty, constant);
    let none = || quote!(::core::option::Option::None);
    // That `Deserialize` is not implemented for a reference of every lifetime is an error, and not something to choose by.
    let parser = if is_refused || declaration.has_reference() { none() } else { can("PARSER") };
    let writer = if is_refused { none() } else { can("WRITER") };
    let equality = if is_refused { none() } else { can("EQUALITY") };
    let narrowing = if is_refused { none() } else { can("NARROWING") };
    let (export, listed) = if is_refused {
        (item::unused(), TokenStream::new())
    } else {
        (export(args), listed(args, private, declaration))
    };

    let parts = quote! {
        #private::OptionParts {
            name: #name,
            type_name: #type_name,
            kind: #private::OptionKind::#kind,
            empty_is_unset: #empty_is_unset,
            is_secret: #is_secret,
            doc: #doc,
            module: ::core::module_path!(),
            file: ::core::file!(),
            line: ::core::line!(),
            parser: #parser,
            writer: #writer,
            equality: #equality,
            narrowing: #narrowing,
            covered_by: #covered_by,
        }
    };
    let function = if is_refused { quote!(refused_option) } else { quote!(frame_option) };
    let value = checked(args, ty, Place::of(ty).put_call(quote!(#private::#function), parts));
    // Its entry in the list stands in its value, so that nothing is emitted beside it.
    let value = emit(private, &quote!({ #listed #value }));
    let attrs = item::own(attrs);
    quote! {
        #(#attrs)*
        #export
        #vis #keyword #ident: #ty = #value #semicolon
    }
}

/// `value`, if the type of the static is one of a declaration. Where it is not, that is the same error wherever this
/// stands, and the compiler shows it once.
fn checked(args: &OptionArgs, ty: &Type, value: TokenStream) -> TokenStream {
    Place::of(ty).put_check(args.krate.as_ref(), "checked", ty, value)
}

/// What the type of the option can do if it implements the trait for it: the constant of this name.
fn if_implemented(args: &OptionArgs, private: &TokenStream, ty: &Type, constant: &str) -> TokenStream {
    let constant = format_ident!("{constant}");
    // Where the path has the user's tokens in it, the lint of unused imports would speak of them. This uses the import:
    // `()` is not the type of an option.
    let used = args.krate.is_some().then(|| quote!(_ = #private::DeclaredReader::<()>::#constant;));
    quote! {
        {
            use #private::NoReader as _;
            #used
            #private::DeclaredReader::<#ty>::#constant
        }
    }
}

/// The static's symbol. A second option of the name is a link error, and the assembly of a resolver that covers the
/// option makes the symbol in [`covered_by`] of it.
///
/// On ELF it is in a section that linkers keep, as [`unique`](crate::paths::unique) is: all refer to the first option of
/// the name, so mold would leave the second out and say nothing.
fn export(args: &OptionArgs) -> TokenStream {
    let symbol = args.name.option_symbol();
    quote_spanned! {at(args.name.span)=>
        // SAFETY: the name is one that only this macro makes.
        #[unsafe(export_name = #symbol)]
        #[cfg_attr(
            any(target_os = "linux", target_os = "android"),
            // SAFETY: nothing reads the section, and all that is in it are options.
            unsafe(link_section = "frame_registry_options")
        )]
    }
}

/// The resolver that covers the option: a symbol that is undefined, in plain words, where none is linked.
///
/// Unit tests have none of another crate, see [`is_unit_test`]: there the option links without one, and is refused when
/// it is set, unless a resolver covers it.
fn covered_by(private: &TokenStream, args: &OptionArgs, ty: &Type) -> TokenStream {
    let symbol = args.name.covered_option_symbol();
    let ident = fresh("__FRAME_OPTION_COVERED_BY", ty);
    let is_unit_test = is_unit_test();
    let guarded = quote! {
        if ::core::cfg!(#is_unit_test) {
            ::core::option::Option::None
        } else {
            // SAFETY: only the assembly of `#[frame_resolver]` defines the symbol, as the address of a resolver.
            unsafe extern "C" {
                #[link_name = #symbol]
                safe static #ident: &'static #private::LinkedResolver;
            }
            ::core::option::Option::Some(&#ident)
        }
    };
    where_link_guarded(private, &guarded, &quote!(::core::option::Option::None))
}

/// A condition for `cfg`: whether these are the unit tests of the crate that declares the option. The crate of the
/// resolver depends on that crate, and so would bring it a second time.
///
/// Integration tests and benchmarks are crates of their own. They can depend on the resolver's crate, or have it.
fn is_unit_test() -> TokenStream {
    // Cargo sets the variable for these alone.
    let is_crate_of_its_own = std::env::var_os("CARGO_TARGET_TMPDIR").is_some();
    if is_crate_of_its_own { quote!(any()) } else { quote!(test) }
}

fn listed(args: &OptionArgs, private: &TokenStream, declaration: &Declaration) -> TokenStream {
    let Declaration { attrs, ident, ty, .. } = declaration;
    let allow_deprecated = item::allow_deprecated(attrs);
    let is_secret = args.is_secret;
    let guards = where_link_guarded(private, &guards(args), &TokenStream::new());
    let listed = fresh("__FRAME_OPTION", quote!(#ident #ty));
    let option = checked(args, ty, quote!(&#ident));
    quote! {
        #(#allow_deprecated)*
        #[#private::linkme::distributed_slice(#private::OPTIONS)]
        #[linkme(crate = #private::linkme)]
        static #listed: #private::ListedOption =
            #private::listed_option(#option, #is_secret, ::core::file!(), ::core::line!());
        #guards
    }
}

/// On 64-bit ELF: what has to be in the same file as the option, and what must not be there twice.
fn guards(args: &OptionArgs) -> TokenStream {
    // Found from outside of a shared library of Rust, whose programs use the option, but another library's of the same name
    // does not take its place inside.
    let mut lines = vec![format!(".protected {}", args.name.option_symbol())];
    lines.extend(require_here_lines(READER_SYMBOL));
    if let Some(symbol) = args.name.twice_in_test_symbol() {
        lines.extend([
            // Apart from the references: linkers name the symbol before a reference as the place of that.
            ".pushsection .rodata.frame_registry_guards, \"aR\", %progbits".to_owned(),
            format!(".globl {symbol}"),
            format!(".hidden {symbol}"),
            format!("{symbol}:"),
            ".byte 0".to_owned(),
            ".popsection".to_owned(),
        ]);
    }
    let guards = assembly(NO_PLACE, &lines, &[]);
    let resolver_here = (args.kind == Kind::Linked).then(|| {
        let required = require_here(&[args.name.covered_option_symbol()]);
        let is_unit_test = is_unit_test();
        quote! {
            #[cfg(not(#is_unit_test))]
            const _: () = { #required };
        }
    });
    quote!(#guards #resolver_here)
}
