//! Type-erased values, cheap to clone.

use std::any::Any;
use std::fmt::Debug;
use std::marker::PhantomPinned;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What can be the value of a [`Key`](crate::Key) or of a [`FrameOption`](crate::FrameOption).
///
/// Implemented for every `'static` type that is `Debug`, `Send` and `Sync`: frames are shared between threads,
/// and what is on them can be shown (a key can be marked [`secret`](crate::Key::secret)).
pub trait FrameValue: Any + Debug + Send + Sync {}

impl<T: Any + Debug + Send + Sync> FrameValue for T {}

/// A value of unknown type: inline where it is a small standard one, borrowed where it is a static, else shared.
///
/// It has two variants, so that dropping or cloning it is one compare. It is not `Unpin`, because rustc declares the
/// pointer to an `Unpin` value that is dropped as `noalias`. LLVM then keeps a mark between this compare and the one that
/// finds a slot of a list empty, and does not make one of the two.
#[derive(Clone)]
pub(crate) enum Value {
    Unshared(Unshared),
    Shared(Arc<dyn FrameValue>, PhantomPinned),
}

/// A value that is cloned by copying it, and is not dropped.
#[derive(Clone, Copy)]
pub(crate) enum Unshared {
    Inline(Scalar),
    Static(&'static dyn FrameValue),
}

impl Value {
    #[inline]
    pub(crate) fn new<T: FrameValue>(value: T) -> Self {
        match Scalar::of(&value) {
            Some(scalar) => Self::Unshared(Unshared::Inline(scalar)),
            None => Self::shared(Arc::new(value)),
        }
    }

    #[inline]
    pub(crate) fn borrowed(value: &'static dyn FrameValue) -> Self {
        Self::Unshared(Unshared::Static(value))
    }

    #[inline]
    pub(crate) fn shared(value: Arc<dyn FrameValue>) -> Self {
        Self::Shared(value, PhantomPinned)
    }

    #[inline]
    pub(crate) fn get<T: FrameValue>(&self) -> Option<&T> {
        let any: &dyn Any = match self {
            Self::Unshared(Unshared::Inline(scalar)) => scalar.as_any(),
            Self::Unshared(Unshared::Static(value)) => *value,
            Self::Shared(value, _) => &**value,
        };
        any.downcast_ref()
    }

    /// Whether one is a copy of the other, which of two that are inline only means that they are equal.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Unshared(Unshared::Inline(one)), Self::Unshared(Unshared::Inline(other))) => one == other,
            (Self::Unshared(Unshared::Static(one)), Self::Unshared(Unshared::Static(other))) => {
                std::ptr::addr_eq(*one, *other)
            }
            (Self::Shared(one, _), Self::Shared(other, _)) => {
                std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
            }
            _ => false,
        }
    }

    pub(crate) fn as_debug(&self) -> &dyn Debug {
        match self {
            Self::Unshared(Unshared::Inline(scalar)) => scalar.as_debug(),
            Self::Unshared(Unshared::Static(value)) => value,
            Self::Shared(value, _) => value,
        }
    }
}

macro_rules! scalars {
    ($($variant:ident($type:ty),)*) => {
        /// The standard types that are stored inline.
        #[derive(Clone, Copy, PartialEq)]
        pub(crate) enum Scalar {
            $($variant($type),)*
        }

        impl Scalar {
            /// The compiler knows `T`, so one arm is left of this.
            #[inline]
            fn of<T: Any>(value: &T) -> Option<Self> {
                let value: &dyn Any = value;
                $(if let Some(&value) = value.downcast_ref::<$type>() {
                    return Some(Self::$variant(value));
                })*
                None
            }

            #[inline]
            fn as_any(&self) -> &dyn Any {
                match self {
                    $(Self::$variant(value) => value,)*
                }
            }

            fn as_debug(&self) -> &dyn Debug {
                match self {
                    $(Self::$variant(value) => value,)*
                }
            }
        }
    };
}

scalars! {
    Unit(()),
    Bool(bool),
    Char(char),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    Usize(usize),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    Isize(isize),
    F32(f32),
    F64(f64),
    Str(&'static str),
    Duration(Duration),
    Instant(Instant),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_three_words() {
        assert_eq!(size_of::<Value>(), 3 * size_of::<usize>());
    }

    #[test]
    fn every_representation_gives_its_value_back_and_no_other_type() {
        static BORROWED: String = String::new();
        let text = String::from("shared");
        assert_eq!(Value::new(7_u32).get::<u32>(), Some(&7));
        assert_eq!(Value::new(7_u32).get::<i32>(), None);
        assert_eq!(Value::new("text").get::<&'static str>(), Some(&"text"));
        assert_eq!(Value::new(text.clone()).get::<String>(), Some(&text));
        assert_eq!(Value::new(text).get::<&'static str>(), None);
        assert!(std::ptr::eq(Value::borrowed(&BORROWED).get::<String>().unwrap(), &raw const BORROWED));
    }

    #[test]
    fn a_copy_is_the_same_and_what_is_only_equal_is_not() {
        static BORROWED: String = String::new();
        let shared = Value::new("text".to_owned());
        assert!(shared.is_same(&shared.clone()));
        assert!(!shared.is_same(&Value::new("text".to_owned())));
        assert!(Value::borrowed(&BORROWED).is_same(&Value::borrowed(&BORROWED)));
        assert!(!Value::borrowed(&BORROWED).is_same(&Value::new(String::new())));
        assert!(Value::new(7_u32).is_same(&Value::new(7_u32)), "inline values have no identity");
        assert!(!Value::new(7_u32).is_same(&Value::new(8_u32)));
        assert!(!Value::new(7_u32).is_same(&Value::new(7_u64)));
    }

    #[test]
    fn standard_scalars_are_inline() {
        assert!(matches!(Value::new(()), Value::Unshared(Unshared::Inline(_))));
        assert!(matches!(Value::new(Duration::from_secs(1)), Value::Unshared(Unshared::Inline(_))));
        assert!(matches!(Value::new(Instant::now()), Value::Unshared(Unshared::Inline(_))));
        assert!(matches!(Value::new(Box::new(1)), Value::Shared(..)));
    }
}
