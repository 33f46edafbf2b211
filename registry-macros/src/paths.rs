//! Paths and spans of what is emitted.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::Path;

/// The path of `frame_registry::__private`.
pub(crate) fn private(krate: Option<&Path>) -> TokenStream {
    private_at(krate, Span::call_site())
}

fn private_at(krate: Option<&Path>, span: Span) -> TokenStream {
    let krate = krate.map_or_else(|| quote_spanned!(span=> ::frame_registry), ToTokens::to_token_stream);
    quote_spanned!(span=> #krate::__private)
}

/// A span that points at the user's tokens, but whose tokens are the macro's own: a lint of the user's crate, such
/// as `unsafe_code`, does not speak of them.
pub(crate) fn at(user: Span) -> Span {
    Span::call_site().located_at(user)
}

/// Where several of the user's tokens stand. On a stable compiler no span covers them all, but an expression whose
/// first token stands at the first of them and its last at the last is underlined from there to there.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    first: Span,
    last: Span,
}

impl Place {
    pub(crate) fn of(tokens: &impl ToTokens) -> Self {
        let mut spans = tokens.to_token_stream().into_iter().map(|token| match token {
            // The closing delimiter, should this be the last.
            TokenTree::Group(group) => (group.span_open(), group.span_close()),
            other => (other.span(), other.span()),
        });
        let (first, mut last) = spans.next().unwrap_or((Span::call_site(), Span::call_site()));
        if let Some((_, end)) = spans.last() {
            last = end;
        }
        Self { first, last }
    }

    /// `tokens`, moved here. What their names refer to stays as it is.
    pub(crate) fn put(self, tokens: TokenStream) -> TokenStream {
        let mut trees: Vec<TokenTree> = tokens.into_iter().collect();
        for tree in &mut trees {
            relocate(tree, self.first);
        }
        if let [_, .., last] = &mut trees[..] {
            relocate(last, self.last);
        }
        trees.into_iter().collect()
    }

    /// A call of `function` that stands here; the arguments stay where they are.
    pub(crate) fn put_call(self, function: TokenStream, arguments: TokenStream) -> TokenStream {
        let mut call = self.put(function);
        call.extend([parenthesized(arguments, at(self.last))]);
        call
    }

    /// A call of `private::function::<ty, _>`, where `ty` is the type that stands here: with the user's own spans, so
    /// that the call, its function and the type are one place for the compiler.
    pub(crate) fn put_check(
        self,
        krate: Option<&Path>,
        function: &str,
        ty: &impl ToTokens,
        arguments: TokenStream,
    ) -> TokenStream {
        let private = private_at(krate, self.first);
        let function = Ident::new(function, self.first);
        let mut call = quote_spanned!(self.first=> #private::#function::<);
        ty.to_tokens(&mut call);
        call.extend(quote_spanned!(self.last=> , _>));
        call.extend([parenthesized(arguments, self.last)]);
        call
    }
}

fn relocate(tree: &mut TokenTree, to: Span) {
    tree.set_span(tree.span().located_at(to));
}

fn parenthesized(tokens: TokenStream, span: Span) -> TokenTree {
    let mut group = Group::new(Delimiter::Parenthesis, tokens);
    group.set_span(span);
    group.into()
}

/// Lines of assembly that are part of the program. They are an item of their own, with a static that keeps it.
pub(crate) fn assembly(place: &str, lines: &[String], operands: &[TokenStream]) -> TokenStream {
    let used = quote!(#(#operands)*);
    let function = fresh("__frame_registry_assembly", &used);
    let kept = fresh("__FRAME_REGISTRY_ASSEMBLY", &used);
    let assembly = assembly_function(&function, &section(place, lines), operands);
    quote! {
        #assembly

        #[used]
        static #kept: extern "C" fn() = #function;
    }
}

/// Lines of assembly in a section, which the linker keeps though nothing refers to it (`R`).
///
/// `place` is part of the section's name, which is what linkers say of a symbol that is defined in it.
pub(crate) fn section(place: &str, lines: &[String]) -> Vec<String> {
    named_section(&format!(".data.rel.ro.{place}"), lines)
}

/// As [`section`], in the section of exactly this name.
pub(crate) fn named_section(name: &str, lines: &[String]) -> Vec<String> {
    let begin = format!(".pushsection \"{name}\", \"awR\", %progbits");
    let mut section = vec![begin, ".balign 8".to_owned()];
    section.extend_from_slice(lines);
    section.push(".popsection".to_owned());
    section
}

/// A function of assembly, never called. It is a function only because assembly at the level of items is not allowed
/// in a block; a naked function is the same, emitted once. Something that is kept has to refer to it.
pub(crate) fn assembly_function(function: &Ident, lines: &[String], operands: &[TokenStream]) -> TokenStream {
    quote! {
        // SAFETY: never called, and its lines make symbols and data that only these macros refer to.
        #[unsafe(naked)]
        extern "C" fn #function() {
            ::core::arch::naked_asm!(#(#lines,)* #(#operands),*)
        }
    }
}

/// The place in the section's name where none is needed.
pub(crate) const NO_PLACE: &str = "frame_registry_guards";

/// The file and the line of the attribute, as they can stand in a string of the assembler.
pub(crate) fn location() -> String {
    let span = proc_macro::Span::call_site();
    format!("{}:{}", quotable(&span.file()), span.line())
}

/// `text`, with `_` for what means something in a string of the assembler, or in the template of assembly.
pub(crate) fn quotable(text: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || " _-./+@,=~:`()[]<>".contains(letter);
    text.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect()
}

/// The guard against a second item of a name: a static named `ident` that defines `symbol`. It stands at the name, which
/// is where the compiler points when both are in one crate.
///
/// On ELF it is in a section whose name is an identifier, which linkers keep though nothing refers to it: mold says
/// nothing of a second definition in a section that it leaves out.
pub(crate) fn unique(private: &TokenStream, ident: &Ident, symbol: &str, name: Span) -> TokenStream {
    let span = at(name);
    let guard = quote_spanned! {span=>
        // SAFETY: the name is one that only these macros make, and nothing reads the static by it. A second static
        // of the name is a link error, which is what it is for.
        #[unsafe(export_name = #symbol)]
        static #ident: ::core::primitive::u8 = 0;
    };
    let kept = quote_spanned! {span=>
        // SAFETY: nothing reads the section, and nothing else is in it.
        #[unsafe(link_section = "frame_registry_guards")]
        #guard
    };
    where_link_guarded(private, &kept, &guard)
}

/// Refers to symbols as hidden ones, which have to be in the same file: without this a shared library would link with
/// a symbol undefined, and fail only when it is loaded.
pub(crate) fn require_here(symbols: &[String]) -> TokenStream {
    let lines: Vec<_> = symbols.iter().flat_map(|symbol| require_here_lines(symbol)).collect();
    assembly(NO_PLACE, &lines, &[])
}

/// The lines of assembly that refer to one symbol. It is a distance and not an address, so that the loader has nothing
/// to fill in when the program starts.
pub(crate) fn require_here_lines(symbol: &str) -> [String; 2] {
    [format!(".hidden {symbol}"), format!(".long {symbol} - .")]
}

/// All that is emitted, but the user's item. It goes through one macro of the registry, so that a path which does not lead
/// there is one error, and not one for each name.
pub(crate) fn emit(private: &TokenStream, tokens: &TokenStream) -> TokenStream {
    quote!(#private::emit! { #tokens })
}

/// An identifier that begins with `base` and does not occur in `tokens`, the user's code in whose scope it stands.
pub(crate) fn fresh(base: &str, tokens: impl ToTokens) -> Ident {
    let mut name = base.to_owned();
    while contains(tokens.to_token_stream(), &name) {
        name.push('_');
    }
    Ident::new(&name, Span::call_site())
}

/// Whether the identifier `name` is among `tokens`.
pub(crate) fn contains(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => contains(group.stream(), name),
        _ => false,
    })
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
