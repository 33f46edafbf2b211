//! JSON that a guest gave, read within a limit of memory.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value as Json};

use super::error::exhausted;
use crate::error::{CallError, ErrorKind};
use crate::script::clock;

/// Why a text is not read.
#[derive(Debug)]
pub(crate) enum JsonError {
    NotJson(serde_json::Error),
    /// What is read would take more memory than this.
    TooLarge {
        limit: usize,
    },
}

impl JsonError {
    /// The failure of a call that has to do with this text, which `what` names, with the verb; of this kind if it is not JSON.
    pub(crate) fn into_error(self, what: &str, kind: ErrorKind) -> CallError {
        match self {
            Self::NotJson(error) => {
                CallError::new(kind, format!("{what} not JSON: {error}")).with_source(error)
            }
            Self::TooLarge { limit } => {
                exhausted(format!("{what} JSON that takes more than {limit} bytes of memory once it is read"))
            }
        }
    }
}

/// How much memory may be taken by what is read.
#[derive(Debug)]
pub(crate) struct JsonBudget {
    limit: usize,
    left: usize,
    is_exceeded: bool,
}

/// A place in an array.
const ELEMENT: usize = size_of::<Json>();

/// What an allocation takes beside what it was asked for, at most: a header, and being rounded up.
const ALLOCATION: usize = 32;

/// The first member of an object: a leaf of a B-tree, with places for 11 members.
const FIRST_MEMBER: usize = 11 * (size_of::<String>() + ELEMENT) + ALLOCATION;

/// A further member, on average over those of many nodes, which are half full at least. One that replaces another of its
/// name costs no memory; it is counted for the time it takes.
const MEMBER: usize = FIRST_MEMBER / 4;

/// How many members an object has before further ones count twice, as finding the place of one takes longer.
const MANY: usize = 1000;

/// A byte of the text, for the time it takes.
const TEXT: usize = 2;

impl JsonBudget {
    /// At most this many bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, left: limit, is_exceeded: false }
    }

    /// Reads a text. What comes of it can take a hundred times the memory, and reading it takes time in which nothing else
    /// runs on the thread. So it ends where all texts and values count for more than the limit.
    pub(crate) fn read(&mut self, text: &str) -> Result<Json, JsonError> {
        // It is bounded, and the component cannot make it take longer than that.
        let _slice = clock::enter_host();
        let limit = self.limit;
        let left = self.left.checked_sub(TEXT.saturating_mul(text.len()));
        self.left = left.ok_or(JsonError::TooLarge { limit })?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = ValueBuilder(self)
            .deserialize(&mut deserializer)
            .and_then(|json| deserializer.end().map(|()| json));
        read.map_err(
            |error| {
                if self.is_exceeded { JsonError::TooLarge { limit } } else { JsonError::NotJson(error) }
            },
        )
    }

    fn take<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            return Ok(());
        }
        self.is_exceeded = true;
        Err(E::custom("it is too large"))
    }

    fn take_string<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        // An empty one is not allocated.
        if text.is_empty() { Ok(()) } else { self.take(text.len() + ALLOCATION) }
    }
}

/// Builds a value, and takes what it needs from the budget before it is there.
struct ValueBuilder<'a>(&'a mut JsonBudget);

impl<'de> DeserializeSeed<'de> for ValueBuilder<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueBuilder<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Json, E> {
        self.0.take_string(text)?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Json, A::Error> {
        const FIRST: usize = 4;
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(ValueBuilder(self.0))? {
            if array.len() == array.capacity() {
                let more = array.capacity().max(FIRST);
                let header = if array.is_empty() { ALLOCATION } else { 0 };
                self.0.take(more * ELEMENT + header)?;
                array.reserve_exact(more);
            }
            array.push(element);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name == ARBITRARY_PRECISION {
                return number(&members.next_value::<String>()?, self.0);
            }
            self.0.take(match object.len() {
                0 => FIRST_MEMBER,
                1..MANY => MEMBER,
                _ => 2 * MEMBER,
            })?;
            self.0.take_string(&name)?;
            object.insert(name, members.next_value_seed(ValueBuilder(self.0))?);
        }
        Ok(Json::Object(object))
    }
}

/// Where some crate of the program has `serde_json` keep numbers as they are written, each comes as an object with this one
/// member. It is what `serde_json`'s own `Value` goes by.
const ARBITRARY_PRECISION: &str = "$serde_json::private::Number";

fn number<E: serde::de::Error>(digits: &str, budget: &mut JsonBudget) -> Result<Json, E> {
    budget.take_string(digits)?;
    digits.parse().map(|number: Number| number.into()).map_err(E::custom)
}
