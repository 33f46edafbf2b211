//! Names of resolvers and options, and the symbols made of them.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::{Error, Ident, LitStr, Result};

/// A name that can be part of a symbol, and the user's tokens it came from.
#[derive(Clone)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl Name {
    pub(crate) fn of_literal(literal: &LitStr) -> Result<Self> {
        Self::new(literal.value(), literal.span())
    }

    /// The name of a key, which may have parts: `net.overlay`.
    pub(crate) fn of_key(literal: &LitStr) -> Result<Self> {
        let (text, span) = (literal.value(), literal.span());
        if text.split('.').any(str::is_empty) {
            let error = "the name or a part of it is empty; write `name = \"…\"` with parts separated by `.`";
            return Err(Error::new(span, error));
        }
        // Each part is a name, and the dots between them can be part of a symbol, too.
        for part in text.split('.') {
            Self::new(part.to_owned(), span)?;
        }
        Ok(Self { text, span })
    }

    pub(crate) fn of_function(ident: &Ident) -> Result<Self> {
        let text = ident.unraw().to_string();
        if text.is_ascii() {
            return Self::new(text, ident.span());
        }
        Err(Error::new(
            ident.span(),
            format!("`{text}` cannot be part of a symbol; name the resolver in ASCII: `name = \"…\"`"),
        ))
    }

    /// The name, unless the symbol of such an option would be one that stands for something else.
    pub(crate) fn of_option(self) -> Result<Self> {
        match [COVERED_SUFFIX, COVERED_ONCE_SUFFIX].iter().find(|suffix| self.text.ends_with(*suffix)) {
            Some(suffix) => {
                Err(Error::new(self.span, format!("the name of an option does not end in `{suffix}`")))
            }
            None => Ok(self),
        }
    }

    /// A stand-in where the name is what is wrong.
    pub(crate) fn placeholder(span: Span) -> Self {
        Self { text: "unnamed".to_owned(), span }
    }

    fn new(text: String, span: Span) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(span, "the name is empty; write one of ASCII letters, digits and `_`"));
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '_') {
            let example =
                if text.is_ascii() { format!(", such as `{}`", suggestion(&text)) } else { String::new() };
            let error = format!(
                "`{bad}` cannot be part of a symbol; write a name of ASCII letters, digits and `_`{example}"
            );
            return Err(Error::new(span, error));
        }
        Ok(Self { text, span })
    }

    /// Defined by each resolver of this name; strong, so two do not link.
    pub(crate) fn unique_resolver_symbol(&self) -> String {
        format!("frame_resolver_{}_is_registered_more_than_once", self.text)
    }

    /// Defined by each resolver of this name, and referred to by who requires it.
    pub(crate) fn linked_resolver_symbol(&self) -> String {
        format!("frame_resolver_{}_is_not_linked", self.text)
    }

    /// Defined by each key of this name; strong, so two do not link.
    pub(crate) fn unique_key_symbol(&self) -> String {
        format!("frame_key_{}_is_declared_more_than_once", self.text)
    }

    /// The symbol of the option's own static.
    pub(crate) fn option_symbol(&self) -> String {
        format!("frame_option_{}", self.text)
    }

    /// Defined by each option, of its crate: two in one file are the same crate twice, as in a unit test of a crate that
    /// one of its dev-dependencies depends on. `None` where the crate is not known.
    pub(crate) fn twice_in_test_symbol(&self) -> Option<String> {
        let variable = |name| std::env::var(name).ok();
        let krate = format!("{}_{}", variable("CARGO_CRATE_NAME")?, variable("CARGO_PKG_VERSION")?);
        Some(format!("frame_crate_{}_is_in_the_test_twice_with_option_{}", suggestion(&krate), self.text))
    }

    /// Defined by the resolver that covers the option, and referred to by the option.
    pub(crate) fn covered_option_symbol(&self) -> String {
        format!("{}{COVERED_SUFFIX}", self.option_symbol())
    }
}

/// Defined by the registry, and referred to by every resolver, option and declared key: the table that they are in is read by the
/// registry of the same file, the program or a shared library, and by no other.
pub(crate) const READER_SYMBOL: &str = "frame_registry_is_in_another_library";

/// What [`Name::covered_option_symbol`] adds to the option's own symbol. A resolver knows an option only by its
/// path, from which the assembler has the symbol.
pub(crate) const COVERED_SUFFIX: &str = "_has_no_linked_resolver";

/// Added to the option's own symbol by each resolver that covers it; strong, so two do not link.
pub(crate) const COVERED_ONCE_SUFFIX: &str = "_is_covered_more_than_once";

/// `text`, made of what a symbol can have.
fn suggestion(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
