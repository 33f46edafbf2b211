//! A static under an attribute that makes its value.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::{ParseStream, Parser};
use syn::{
    AngleBracketedGenericArguments, Attribute, Error, GenericArgument, Ident, PathArguments, Result, Token,
    Type, Visibility,
};

use crate::args::Errors;
use crate::item;

/// What the errors call an attribute and its static.
pub(crate) struct Words {
    /// `frame_option`.
    pub(crate) attribute: &'static str,
    /// `option`.
    pub(crate) thing: &'static str,
    /// `FrameOption<T>`.
    pub(crate) ty: &'static str,
}

pub(crate) const OPTION: Words = Words { attribute: "frame_option", thing: "option", ty: "FrameOption<T>" };
pub(crate) const KEY: Words = Words { attribute: "frame_key", thing: "key", ty: "Key<T>" };
const THINGS: [&Words; 2] = [&OPTION, &KEY];

impl Words {
    fn other(&self) -> &'static Self {
        if self.attribute == KEY.attribute { &OPTION } else { &KEY }
    }

    /// Whether `ty` is `FrameOption<…>`, or `Key<…>`. Without arguments it may be an alias.
    fn is_type_of(&self, ty: &Type) -> bool {
        let Type::Path(path) = ty else { return false };
        let name = self.ty.trim_end_matches("<T>");
        arguments(ty).is_some() && path.path.segments.last().is_some_and(|segment| segment.ident == name)
    }
}

pub(crate) struct Declaration {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) keyword: Token![static],
    mutability: Option<Token![mut]>,
    pub(crate) ident: Ident,
    /// The type, and where it was a reference, what it referred to.
    pub(crate) ty: Type,
    /// Whether the type is that of a static under the other attribute.
    pub(crate) is_other_thing: bool,
    reference: Option<TokenStream>,
    initialiser: Option<TokenStream>,
    pub(crate) semicolon: Token![;],
}

impl Declaration {
    /// The static, or what to emit in its place. Errors other than those that leave no static are added to `errors`.
    pub(crate) fn read(
        item: TokenStream,
        words: &Words,
        errors: &mut Errors,
    ) -> std::result::Result<Self, TokenStream> {
        let Words { attribute, ty, .. } = words;
        let (kind, span) = item::kind(&item);
        if kind != "a static" {
            let error =
                format!("`#[{attribute}]` goes on a static, and this is {kind}: write `static NAME: {ty};`");
            let mut error = Error::new(span, error).into_compile_error();
            error.extend(item);
            return Err(error);
        }
        // `safe` or `unsafe`, as only a static of an `extern` block has it.
        if let Some(qualifier) = item::first_word(&item).filter(|word| word != "static") {
            let error = format!(
                "a frame {} is not in an `extern` block: move it out, and remove this word",
                words.thing
            );
            let mut emitted = Error::new(qualifier.span(), error).into_compile_error();
            emitted.extend(quote!(#[allow(improper_ctypes)] #item));
            return Err(emitted);
        }
        match (|input: ParseStream<'_>| Self::parse(input, words)).parse2(item.clone()) {
            Ok(Some(mut declaration)) => {
                declaration.check(words, errors);
                declaration
                    .attrs
                    .retain(|attr| !THINGS.iter().any(|thing| item::is_named(attr, thing.attribute)));
                declaration.replace_arguments();
                Ok(declaration)
            }
            Ok(None) => Err(TokenStream::new()),
            Err(error) => {
                errors.push(error);
                Err(TokenStream::new())
            }
        }
    }

    /// `None` where there is no type: the compiler read the static before the macro did, and has said so.
    fn parse(input: ParseStream<'_>, words: &Words) -> Result<Option<Self>> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let keyword = input.parse()?;
        let mutability = input.parse()?;
        let ident = input.parse()?;
        if !input.peek(Token![:]) {
            input.parse::<TokenStream>()?;
            return Ok(None);
        }
        input.parse::<Token![:]>()?;
        let at = input.span();
        let mut ty = input.parse().map_err(|_| {
            let Words { ty, .. } = words;
            Error::new(at, format!("expected a type: write `{ty}`, where `T` is the type of the values"))
        })?;
        let mut reference = None;
        if let Type::Reference(borrowed) = ty {
            reference = Some(borrowed.to_token_stream());
            ty = *borrowed.elem;
        }
        let initialiser = if input.peek(Token![=]) { Some(initialiser(input)?) } else { None };
        let semicolon = input.parse()?;
        input.parse::<TokenStream>()?;
        let is_other_thing = words.other().is_type_of(&ty);
        Ok(Some(Self {
            attrs,
            vis,
            keyword,
            mutability,
            ident,
            ty,
            is_other_thing,
            reference,
            initialiser,
            semicolon,
        }))
    }

    /// Puts another type in place of one that the type cannot have as its argument, so that what uses the static has no
    /// part in the mistake.
    fn replace_arguments(&mut self) {
        let is_refused = placeholder(&self.ty).is_some()
            || impl_trait(&self.ty).is_some()
            || unsized_value(&self.ty).is_some();
        if let Type::Path(path) = &mut self.ty
            && let Some(last) = path.path.segments.last_mut()
            && is_refused
        {
            last.arguments = PathArguments::AngleBracketed(syn::parse_quote!(<()>));
        }
    }

    /// The static in a place where it needs no value, for a type that this macro has none of.
    pub(crate) fn without_value(&self) -> TokenStream {
        let Self { attrs, vis, keyword, ident, ty, semicolon, .. } = self;
        let attrs = item::own(attrs);
        quote! {
            #[allow(dead_code, improper_ctypes)]
            unsafe extern "C" {
                #(#attrs)*
                #vis safe #keyword #ident: #ty #semicolon
            }
        }
    }

    /// Whether a reference is part of the type.
    pub(crate) fn has_reference(&self) -> bool {
        has_reference(self.ty.to_token_stream())
    }

    fn check(&self, words: &Words, errors: &mut Errors) {
        let Words { attribute, thing, ty } = words;
        if let Some(second) = item::find(&self.attrs, attribute) {
            errors.refuse(second, format!("a static is one {thing}: remove this attribute"));
        }
        let other = words.other();
        if let Some(second) = item::find(&self.attrs, other.attribute) {
            let error =
                "a static is a frame option or a frame key, not both: remove one of the two attributes";
            errors.refuse(second, error);
        } else if self.is_other_thing {
            let error = format!(
                "the type of a frame {thing} is `{ty}`: write that, or `#[{}(…)]` for a frame {}",
                other.attribute, other.thing
            );
            errors.refuse(&self.ty, error);
        }
        if let Some(unsized_type) = unsized_value(&self.ty) {
            let error = format!("the values of a frame {thing} have a size: put this into a `Box`");
            errors.refuse(unsized_type, error);
        }
        let written_out = || {
            format!("the type of a frame {thing} is written out: write `{ty}` with the type of the values")
        };
        if let Some(placeholder) = placeholder(&self.ty) {
            errors.push(Error::new(placeholder, written_out()));
        }
        if let Some(impl_trait) = impl_trait(&self.ty) {
            errors.refuse(impl_trait, written_out());
        }
        if let Some(token) = &self.mutability {
            errors.refuse(token, format!("a frame {thing} is shared by the whole program: remove `mut`"));
        }
        if let Some(tokens) = &self.reference {
            errors.refuse(tokens, format!("a frame {thing} is not behind a reference: write `{ty}`"));
        }
        if let Some(tokens) = &self.initialiser {
            let error = format!("`#[{attribute}]` makes the value: write `static NAME: {ty};` without `= …`");
            errors.refuse(tokens, error);
        }
    }
}

/// `= …`, up to the `;`.
fn initialiser(input: ParseStream<'_>) -> Result<TokenStream> {
    let mut tokens = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![;]) {
        tokens.extend([input.parse::<TokenTree>()?]);
    }
    Ok(tokens)
}

fn has_reference(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => has_reference(group.stream()),
        TokenTree::Punct(punct) => punct.as_char() == '&',
        _ => false,
    })
}

/// The arguments of `FrameOption<T>`.
fn arguments(ty: &Type) -> Option<&AngleBracketedGenericArguments> {
    let Type::Path(path) = ty else { return None };
    match &path.path.segments.last()?.arguments {
        PathArguments::AngleBracketed(arguments) => Some(arguments),
        _ => None,
    }
}

/// The `T` of `FrameOption<T>` if it is of a kind of types without a size.
fn unsized_value(ty: &Type) -> Option<&Type> {
    arguments(ty)?.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty @ (Type::TraitObject(_) | Type::Slice(_))) => Some(ty),
        GenericArgument::Type(ty @ Type::Path(path)) if path.path.is_ident("str") => Some(ty),
        _ => None,
    })
}

/// `FrameOption<impl Trait>`.
fn impl_trait(ty: &Type) -> Option<&Type> {
    arguments(ty)?.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty @ Type::ImplTrait(_)) => Some(ty),
        _ => None,
    })
}

/// Where `_` stands for a type.
fn placeholder(tokens: impl ToTokens) -> Option<Span> {
    tokens.to_token_stream().into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == "_" => Some(ident.span()),
        TokenTree::Group(group) => placeholder(group.stream()),
        _ => None,
    })
}

/// The `T` of `FrameOption<T>`, as the user wrote it; all of the type where that is an alias.
pub(crate) fn value_type(ty: &Type) -> String {
    let written =
        arguments(ty).map_or_else(|| ty.to_token_stream(), |arguments| arguments.args.to_token_stream());
    // Rust code has no spaces in these places.
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
