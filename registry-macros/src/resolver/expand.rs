//! What a function under `#[frame_resolver]` becomes.

use proc_macro2::{Delimiter, Group, Ident, Literal, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{FnArg, ReturnType};

use super::args::Args;
use super::function::Function;
use crate::item;
use crate::name::{COVERED_ONCE_SUFFIX, COVERED_SUFFIX, Name};
use crate::paths::{Place, assembly, at, private, where_link_guarded};

pub(crate) fn expand(args: &Args, function: &Function) -> TokenStream {
    let private = &private(args.krate.as_ref());
    let Args { order, name, covers, .. } = args;
    let conditions = item::conditions(&function.attrs);
    let text = Literal::string(&name.text);
    let run = run(private, function);
    let covers_spanned = covers.iter().map(|path| quote_spanned!(at(path.span())=> &#path));
    let unique = unique(private, args);
    let guarded = guarded(private, args);
    let not_guarded = not_guarded(private, args);
    let keyed = where_link_guarded(private, &guarded, &not_guarded);

    let body = quote! {
        __Registered = {
            #run

            #[#private::linkme::distributed_slice(#private::RESOLVERS)]
            #[linkme(crate = #private::linkme)]
            static __FRAME_RESOLVER: #private::LinkedResolver = #private::linked_resolver(#private::ResolverParts {
                name: #text,
                order: #order,
                module: ::core::module_path!(),
                file: ::core::file!(),
                line: ::core::line!(),
                covers: &[#(#covers_spanned),*],
                run: __frame_resolver_run,
            });

            #unique
            #keyed
            0
        }
    };
    let item = item_that_no_impl_takes(name, body);
    quote! {
        #function

        #(#conditions)*
        #item
    }
}

/// What holds all that is emitted beside the function. Under the attribute in an `impl` or a `trait` the function cannot
/// be called by its name; this is an item that the compiler refuses there as a whole, so that it is one error.
/// The name of the item is what is said of two resolvers of one name in one module.
fn item_that_no_impl_takes(name: &Name, body: TokenStream) -> TokenStream {
    let span = at(name.span);
    let ident = Ident::new(&name.unique_resolver_symbol(), span);
    let mut body = Group::new(Delimiter::Brace, body);
    body.set_span(span);
    quote_spanned!(span=> enum #ident #body)
}

/// The function that the table points to. Its three expressions are what checks the user's types, each standing
/// at the type it checks; a type that does not fit is one error.
fn run(private: &TokenStream, function: &Function) -> TokenStream {
    let traits = [quote!(ContextArgument), quote!(OptionsArgument)];
    let values = [quote!(__frame_context), quote!(__frame_options)];
    let arguments = function.sig.inputs.iter().zip(traits).zip(values).map(|((input, trait_name), value)| {
        let place = match input {
            FnArg::Typed(input) => Place::of(&input.ty),
            FnArg::Receiver(receiver) => Place::of(receiver),
        };
        place.put_call(quote!(#private::#trait_name::of), quote!(#value))
    });
    let output = match &function.sig.output {
        ReturnType::Type(_, ty) => Place::of(ty),
        ReturnType::Default => Place::of(&function.sig.ident),
    };
    let call = output.put_call(function.sig.ident.to_token_stream(), quote!(#(#arguments),*));
    let append = output.put(quote!(#private::ResolverOutput::append_to));
    let deprecated = function.attrs.iter().any(|attr| attr.path().is_ident("deprecated"));
    let allow = deprecated.then(|| quote!(#[allow(deprecated)]));
    quote! {
        #allow
        fn __frame_resolver_run(
            __frame_context: &#private::Context<'_>,
            __frame_options: &#private::Options,
            __frame_pairs: &mut #private::Pairs,
        ) -> ::core::result::Result<(), #private::BoxError> {
            #append(#call, __frame_pairs)
        }
    }
}

/// The guard against a second resolver of the name. It stands at the name, which is where the compiler points when
/// both are in one crate.
///
/// On ELF it is in a section whose name is an identifier, which linkers keep though nothing refers to it: mold says
/// nothing of a second definition in a section that it leaves out.
fn unique(private: &TokenStream, args: &Args) -> TokenStream {
    let symbol = args.name.unique_resolver_symbol();
    let span = at(args.name.span);
    let guard = quote_spanned! {span=>
        // SAFETY: the name is one that only this macro makes, and nothing reads the static by it. A second static
        // of the name is a link error, which is what it is for.
        #[unsafe(export_name = #symbol)]
        static __FRAME_RESOLVER_IS_UNIQUE: u8 = 0;
    };
    let kept = quote_spanned! {span=>
        // SAFETY: nothing reads the section, and nothing else is in it.
        #[unsafe(link_section = "frame_registry_guards")]
        #guard
    };
    where_link_guarded(private, &kept, &guard)
}

/// On 64-bit ELF: the element of the sorted view, and the symbols that others refer to.
fn guarded(private: &TokenStream, args: &Args) -> TokenStream {
    let section = format!(".frame_resolvers.{:08x}.{}", sort_key(args.order), args.name.text);
    let linked = args.name.linked_resolver_symbol();
    let mut lines = vec![
        format!(".weak {linked}"),
        format!(".hidden {linked}"),
        format!("{linked}:"),
        // A shared library has no reason to export it.
        format!(".hidden {}", args.name.unique_resolver_symbol()),
    ];
    let mut operands = vec![quote!(element = sym __FRAME_RESOLVER)];
    for (index, path) in args.covers.iter().enumerate() {
        let option = format_ident!("option{index}", span = at(path.span()));
        lines.push(format!(".hidden {{{option}}}"));
        for suffix in [COVERED_ONCE_SUFFIX, COVERED_SUFFIX] {
            let symbol = format!("{{{option}}}{suffix}");
            lines.extend([format!(".globl {symbol}"), format!(".hidden {symbol}"), format!("{symbol}:")]);
        }
        operands.push(quote_spanned!(at(path.span())=> #option = sym #path));
    }
    lines.push(".quad {element}".to_owned());
    let assembly = assembly(&lines, &operands);

    quote! {
        // SAFETY: sections of this name hold one static of this type each, which is what `frame_registry` reads
        // there; see `sorted_view.rs`.
        #[used]
        #[unsafe(link_section = #section)]
        static __FRAME_RESOLVER_SORTED: &#private::LinkedResolver = &__FRAME_RESOLVER;

        #assembly
    }
}

/// Elsewhere: the symbol that `require_resolvers!` refers to.
fn not_guarded(private: &TokenStream, args: &Args) -> TokenStream {
    let linked = args.name.linked_resolver_symbol();
    quote! {
        // SAFETY: the name is one that only this macro makes.
        #[unsafe(export_name = #linked)]
        static __FRAME_RESOLVER_IS_LINKED: &#private::LinkedResolver = &__FRAME_RESOLVER;
    }
}

/// The order as an unsigned number whose digits, written at fixed width, sort as the order does.
fn sort_key(order: i32) -> u32 {
    order.cast_unsigned() ^ (1 << 31)
}

#[cfg(test)]
mod tests {
    use super::sort_key;

    #[test]
    fn sort_keys_sort_as_text_like_orders_as_numbers() {
        let orders = [i32::MIN, -200, -1, 0, 1, 9, 10, 200, i32::MAX];
        let keys: Vec<_> = orders.iter().map(|&order| format!("{:08x}", sort_key(order))).collect();
        assert!(keys.is_sorted());
        assert_eq!((keys.first().unwrap().as_str(), keys.last().unwrap().as_str()), ("00000000", "ffffffff"));
    }
}
