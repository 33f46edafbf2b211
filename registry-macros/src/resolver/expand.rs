//! What a function under `#[frame_resolver]` becomes.

use proc_macro2::{Delimiter, Group, Ident, Literal, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{FnArg, Path, ReturnType};

use super::args::{ResolverArgs, segments};
use super::function::Function;
use crate::item;
use crate::name::{COVERED_ONCE_SUFFIX, COVERED_SUFFIX, Name, READER_SYMBOL};
use crate::paths::{
    NO_PLACE, Place, assembly_function, at, emit, fresh, location, named_section, private,
    require_here_lines, section, where_link_guarded,
};

pub(crate) fn expand(args: &ResolverArgs, function: &Function) -> TokenStream {
    let private = &private(args.krate.as_ref());
    let ResolverArgs { order, name, covers, .. } = args;
    let inherited = item::inherited(&function.attrs);
    let text = Literal::string(&name.text);
    let names = Names::new(function, covers);
    let Names { run, element, .. } = &names;
    let allow_deprecated = item::allow_deprecated(&function.attrs);
    let run_function = run_function(private, function, run);
    let covers_spanned = covers.iter().map(|path| quote_spanned!(at(path.span())=> &#path));
    let guarded = guarded(args, &names);
    let not_guarded = not_guarded(private, args, &names);
    let keyed = where_link_guarded(private, &guarded, &not_guarded);

    let body = quote! {
        __Registered = {
            #(#allow_deprecated)*
            #run_function

            #[#private::linkme::distributed_slice(#private::RESOLVERS)]
            #[linkme(crate = #private::linkme)]
            static #element: #private::LinkedResolver = #private::linked_resolver(#private::ResolverParts {
                name: #text,
                order: #order,
                module: ::core::module_path!(),
                file: ::core::file!(),
                line: ::core::line!(),
                covers: &[#(#covers_spanned),*],
                run: #run,
            });

            #keyed
            0
        }
    };
    let item = item_that_no_impl_takes(name, &name.unique_resolver_symbol(), body);
    let covered_once = covers.iter().filter_map(covered_symbol).map(|symbol| {
        let item = item_that_no_impl_takes(name, &symbol, TokenStream::new());
        quote!(#(#inherited)* #[doc(hidden)] #item)
    });
    let emitted = emit(
        private,
        &quote! {
            #(#inherited)*
            #[doc(hidden)]
            #item
            #(#covered_once)*
        },
    );
    quote! {
        #function
        #emitted
    }
}

/// Names of emitted items, none of which is a name of the user's items that are used beside them.
struct Names {
    run: Ident,
    element: Ident,
    assembly: Ident,
    unique: Ident,
    linked: Ident,
}

impl Names {
    fn new(function: &Function, covers: &[Path]) -> Self {
        let function = &function.sig.ident;
        let used = quote!(#function #(#covers)*);
        Self {
            run: fresh("__frame_resolver_run", &used),
            element: fresh("__FRAME_RESOLVER", &used),
            assembly: fresh("__frame_resolver_assembly", &used),
            unique: fresh("__FRAME_RESOLVER_IS_UNIQUE", &used),
            linked: fresh("__FRAME_RESOLVER_IS_LINKED", &used),
        }
    }
}

/// What holds all that is emitted beside the function. Under the attribute in an `impl` or a `trait` the function cannot
/// be called by its name; this is an item that the compiler refuses there as a whole, so that it is one error.
/// The name of the item is what is said of two resolvers of one name in one module.
fn item_that_no_impl_takes(name: &Name, ident: &str, body: TokenStream) -> TokenStream {
    let span = at(name.span);
    let ident = Ident::new(ident, span);
    let mut body = Group::new(Delimiter::Brace, body);
    body.set_span(span);
    quote_spanned!(span=> enum #ident #body)
}

/// The name of an item that two resolvers of one module have in common if they cover one option by one path: that, the
/// compiler finds before the linker does. `None` for a path that is another in each macro that writes it.
fn covered_symbol(path: &Path) -> Option<String> {
    let segments = segments(path);
    let is_of_macro = segments.iter().any(|segment| segment == "$crate");
    (!is_of_macro).then(|| format!("frame_option_{}{COVERED_ONCE_SUFFIX}", segments.join("__")))
}

/// The function that the table points to. Its three expressions are what checks the user's types, each standing
/// at the type it checks; a type that does not fit is one error.
fn run_function(private: &TokenStream, function: &Function, run: &Ident) -> TokenStream {
    // Not the user's, should the function have the name of one of these.
    let [ctx, options, pairs] =
        ["ctx", "options", "pairs"].map(|name| Ident::new(name, proc_macro2::Span::mixed_site()));
    let traits = [quote!(ContextArgument), quote!(OptionsArgument)];
    let arguments =
        function.sig.inputs.iter().zip(traits).zip([&ctx, &options]).map(|((input, trait_name), value)| {
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
    quote! {
        fn #run(
            #ctx: &#private::ResolveContext<'_>,
            #options: &#private::Options,
            #pairs: &mut #private::Pairs,
        ) -> ::core::result::Result<(), #private::BoxError> {
            #append(#call, #pairs)
        }
    }
}

/// The guard against a second resolver of the name. It stands at the name, which is where the compiler points when
/// both are in one crate.
fn unique(
    args: &ResolverArgs,
    names: &Names,
    attributes: &TokenStream,
    ty: &TokenStream,
    value: &TokenStream,
) -> TokenStream {
    let ident = &names.unique;
    let symbol = args.name.unique_resolver_symbol();
    quote_spanned! {at(args.name.span)=>
        // SAFETY: the name is one that only this macro makes, and nothing reads the static by it. A second static
        // of the name is a link error, which is what it is for.
        #[unsafe(export_name = #symbol)]
        #attributes
        static #ident: #ty = #value;
    }
}

/// On 64-bit ELF: assembly with the element of the sorted view and the symbols that others refer to, kept by the guard.
///
/// The guard is in a section whose name is an identifier, which linkers keep though nothing refers to it: mold says
/// nothing of a second definition in a section that it leaves out.
fn guarded(args: &ResolverArgs, names: &Names) -> TokenStream {
    let ResolverArgs { name, covers, order, .. } = args;
    let Names { element, assembly, .. } = names;
    let linked = name.linked_resolver_symbol();
    // Sections of this name hold one address each, which is what `frame_registry` reads there; see `sorted_view.rs`.
    let mut lines = named_section(
        &format!(".frame_resolvers.{:08x}.{}", sort_key(*order), name.text),
        &[
            format!(".weak {linked}"),
            format!(".hidden {linked}"),
            format!("{linked}:"),
            // A shared library has no reason to export it.
            format!(".hidden {}", name.unique_resolver_symbol()),
            ".quad {element}".to_owned(),
        ],
    );
    let mut operands = vec![quote!(element = sym #element)];
    let mut symbols = Vec::new();
    for (index, path) in covers.iter().enumerate() {
        let option = format_ident!("option{index}", span = at(path.span()));
        symbols.extend(covering(&name.text, &format!("{{{option}}}")));
        operands.push(quote_spanned!(at(path.span())=> #option = sym #path));
    }
    let place = if covers.is_empty() {
        NO_PLACE.to_owned()
    } else {
        // What the symbol of a covered option points to.
        symbols.push(".quad {element}".to_owned());
        format!("frame resolver {} ({})", name.text, location())
    };
    symbols.extend(require_here_lines(READER_SYMBOL));
    lines.extend(section(&place, &symbols));
    let function = assembly_function(assembly, &lines, &operands);
    let kept = quote! {
        // SAFETY: nothing reads the section, and it holds nothing but such guards.
        #[unsafe(link_section = "frame_registry_guards")]
        #[used]
    };
    let unique = unique(args, names, &kept, &quote!(extern "C" fn()), &quote!(#assembly));

    quote! {
        #function
        #unique
    }
}

/// The symbols of one option that resolver `name` covers. Two resolvers that define them do not link, and the linker names
/// their sections. If both are in one object file, the second finds the symbol defined, and reports both resolvers with a
/// macro of the assembler that the first has left.
fn covering(name: &str, option: &str) -> Vec<String> {
    let covered = format!("{option}{COVERED_SUFFIX}");
    let once = format!("{option}{COVERED_ONCE_SUFFIX}");
    let own = format!(".L{once}_here_by_{name}");
    let resolver = format!("`{name}` ({})", location());
    vec![
        format!(".ifdef {own}"),
        format!(".error \"{option} is named twice in the `covers(…)` of {resolver}; name it once\""),
        ".else".to_owned(),
        format!("{own}:"),
        format!(".ifdef {once}"),
        format!("{once}_by \"{resolver}\""),
        ".else".to_owned(),
        format!(".globl {once}"),
        format!(".hidden {once}"),
        format!("{once}:"),
        // Weak, so that of two resolvers one symbol is reported, and not both.
        format!(".weak {covered}"),
        format!(".hidden {covered}"),
        format!("{covered}:"),
        format!(".macro {once}_by other"),
        format!(
            ".error \"{option} is covered by two resolvers, {resolver} and \\other; remove it from the `covers(…)` of one\""
        ),
        ".endm".to_owned(),
        ".endif".to_owned(),
        ".endif".to_owned(),
    ]
}

/// Elsewhere: the guard, and the symbol that `require_resolvers!` refers to.
fn not_guarded(private: &TokenStream, args: &ResolverArgs, names: &Names) -> TokenStream {
    let Names { linked: ident, element, .. } = names;
    let linked = args.name.linked_resolver_symbol();
    let unique = unique(args, names, &TokenStream::new(), &quote!(::core::primitive::u8), &quote!(0));
    quote! {
        #unique

        // SAFETY: the name is one that only this macro makes.
        #[unsafe(export_name = #linked)]
        static #ident: &#private::LinkedResolver = &#element;
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
