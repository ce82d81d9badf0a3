//! Canonical bytes: the one layout of everything that is hashed, signed, logged or stored.
//!
//! | what | bytes |
//! | --- | --- |
//! | string | its length in bytes as 2 bytes, big-endian, then UTF-8 |
//! | integer | 8 bytes, big-endian, two's complement (sums in snapshots: 16) |
//! | list | the number of elements as 4 bytes, big-endian, then the elements |
//! | map | a list of its (key, value) pairs, keys strictly ascending |
//! | optional | `00`, or `01` and the value |
//! | yes or no | `00` or `01` |
//! | digest, key (32), signature (64), nonce (16) | the bytes as they are |
//! | one of several | 1 byte, the number of the variant where its type is declared, then its fields |
//! | words of the domain (kind, reason, direction, delivery, status) | as a string, as JSON spells them |
//! | record | its fields in the order in which its `canonical_struct!` line names them |
//! | row of a roster's batch | 20 bytes, see [`crate::roster`] |
//! | long text (JSON of metadata) | as a string, but with a length of 4 bytes |
//!
//! A value has exactly one encoding and a decoder accepts no other: presence bytes other than 0 and 1, numbers
//! out of their unit's range, unsorted maps, invalid UTF-8 and trailing bytes are errors. No allocation is sized by a count that
//! was merely read: memory grows with the bytes that are really there.
//!
//! Every digest is [`crate::digest::digest`]: SHA-256 over `gridseal/<kind>/v1\0` and these bytes.

use crate::units::{Epoch, GramsCo2, MicroCurrency, Timestamp, Wh};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why bytes are not the canonical form of anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end in the middle of a value")]
    Truncated,
    /// There are bytes after the value.
    #[error("{bytes} bytes follow the value")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// A value that exists in no canonical encoding.
    #[error("no valid {what}")]
    Invalid {
        /// What was expected.
        what: &'static str,
    },
}

/// Something with exactly one encoding.
pub trait Canonical: Sized {
    /// Appends the canonical bytes.
    fn encode(&self, out: &mut Encoder);

    /// Reads one value.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the canonical form.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// The canonical bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        self.encode(&mut out);
        out.into_bytes()
    }

    /// The value that these bytes, all of them, encode.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the canonical form.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        let value = Self::decode(&mut from)?;
        from.finish()?;
        Ok(value)
    }
}

/// Collects canonical bytes.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// An empty one.
    pub fn new() -> Self {
        Encoder::default()
    }

    /// An empty one that takes so many bytes without growing.
    pub fn with_capacity(bytes: usize) -> Self {
        Encoder {
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// What was collected.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What was collected so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what was collected and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A signed integer.
    pub fn int(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// An unsigned integer; the same bytes as the signed one of the same value.
    pub fn uint(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    /// The number of elements that follow. Lists here have far fewer than 2^32; a longer one is cut off by its
    /// count and will not decode.
    pub fn count(&mut self, count: usize) {
        self.raw(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
    }

    /// A string of less than 2^16 bytes (names have at most 512); a longer one is marked with the greatest length
    /// and will not decode.
    pub fn text(&mut self, text: &str) {
        self.raw(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.raw(text.as_bytes());
    }

    /// An optional value.
    pub fn optional<T: Canonical>(&mut self, value: Option<&T>) {
        value.is_some().encode(self);
        if let Some(value) = value {
            value.encode(self);
        }
    }

    /// A text of less than 2^32 bytes.
    pub fn long_text(&mut self, text: &str) {
        self.count(text.len());
        self.raw(text.as_bytes());
    }
}

/// Reads canonical bytes, strictly.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    /// The last two names: in a batch of settlements, the label of the one before.
    recent: [Option<Arc<str>>; 2],
}

impl<'a> Decoder<'a> {
    /// Over these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder {
            rest: bytes,
            recent: [None, None],
        }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Says that nothing more is expected.
    ///
    /// # Errors
    /// [`DecodeError::Trailing`] if there is.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing {
                bytes: self.rest.len(),
            })
        }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if there are fewer.
    pub fn raw(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if there is none.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A signed integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn int(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// The number of elements of a list. Every element takes at least one byte, so a count beyond the remaining
    /// bytes is a lie.
    ///
    /// # Errors
    /// [`DecodeError`] if it lies.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let count = u32::from_be_bytes(self.array()?);
        let count = usize::try_from(count).map_err(|_| DecodeError::Invalid { what: "count" })?;
        if count > self.rest.len() {
            Err(DecodeError::Invalid { what: "count" })
        } else {
            Ok(count)
        }
    }

    /// A string.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or no UTF-8.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        let length = usize::from(u16::from_be_bytes(self.array()?));
        std::str::from_utf8(self.raw(length)?).map_err(|_| DecodeError::Invalid { what: "UTF-8" })
    }

    /// A string to keep; one that was read shortly before is shared, not copied.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or no UTF-8.
    pub fn shared_text(&mut self) -> Result<Arc<str>, DecodeError> {
        let text = self.text()?;
        // The newer one is last; a hit on the older one makes it the newer.
        let hit = self
            .recent
            .iter()
            .position(|known| known.as_deref() == Some(text));
        if hit == Some(0) {
            self.recent.swap(0, 1);
        }
        if let (Some(_), Some(known)) = (hit, &self.recent[1]) {
            return Ok(Arc::clone(known));
        }
        let shared: Arc<str> = text.into();
        self.recent.swap(0, 1);
        self.recent[1] = Some(Arc::clone(&shared));
        Ok(shared)
    }

    /// A long text.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off or no UTF-8.
    pub fn long_text(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.count()?;
        std::str::from_utf8(self.raw(length)?).map_err(|_| DecodeError::Invalid { what: "UTF-8" })
    }
}

impl Canonical for bool {
    fn encode(&self, out: &mut Encoder) {
        out.byte(u8::from(*self));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid {
                what: "presence byte",
            }),
        }
    }
}

macro_rules! canonical_int {
    ($($t:ty),*) => {$(
        impl Canonical for $t {
            fn encode(&self, out: &mut Encoder) {
                out.uint(u64::from(*self));
            }

            fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                <$t>::try_from(from.uint()?).map_err(|_| DecodeError::Invalid { what: stringify!($t) })
            }
        }
    )*};
}
canonical_int!(u16, u32, u64);

impl Canonical for i64 {
    fn encode(&self, out: &mut Encoder) {
        out.int(*self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.int()
    }
}

impl Canonical for i128 {
    fn encode(&self, out: &mut Encoder) {
        out.raw(&self.to_be_bytes());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(i128::from_be_bytes(from.array()?))
    }
}

macro_rules! canonical_unit {
    ($($t:ty: $get:ident $what:literal),* $(,)?) => {$(
        impl Canonical for $t {
            fn encode(&self, out: &mut Encoder) {
                self.get().encode(out);
            }

            fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                <$t>::try_from(from.$get()?).map_err(|_| DecodeError::Invalid { what: $what })
            }
        }
    )*};
}
canonical_unit!(
    Wh: int "energy",
    GramsCo2: int "CO2",
    MicroCurrency: int "amount of money",
    Epoch: uint "epoch",
    Timestamp: uint "time",
);

impl<const N: usize> Canonical for [u8; N] {
    fn encode(&self, out: &mut Encoder) {
        out.raw(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        from.array()
    }
}

impl Canonical for String {
    fn encode(&self, out: &mut Encoder) {
        out.long_text(self);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(from.long_text()?.to_owned())
    }
}

impl<T: Canonical> Canonical for Option<T> {
    fn encode(&self, out: &mut Encoder) {
        out.optional(self.as_ref());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if bool::decode(from)? {
            T::decode(from).map(Some)
        } else {
            Ok(None)
        }
    }
}

impl<T: Canonical> Canonical for Vec<T> {
    fn encode(&self, out: &mut Encoder) {
        out.count(self.len());
        for item in self {
            item.encode(out);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = from.count()?;
        let mut items = Vec::with_capacity(count.min(1024));
        for _ in 0..count {
            items.push(T::decode(from)?);
        }
        Ok(items)
    }
}

impl<K: Canonical, V: Canonical> Canonical for (K, V) {
    fn encode(&self, out: &mut Encoder) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok((K::decode(from)?, V::decode(from)?))
    }
}

impl<K: Canonical + Ord, V: Canonical> Canonical for BTreeMap<K, V> {
    fn encode(&self, out: &mut Encoder) {
        out.count(self.len());
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut map = BTreeMap::new();
        for _ in 0..from.count()? {
            let (key, value) = <(K, V)>::decode(from)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(DecodeError::Invalid {
                    what: "order of a map",
                });
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

impl<K: Canonical + Ord> Canonical for BTreeSet<K> {
    fn encode(&self, out: &mut Encoder) {
        out.count(self.len());
        for key in self {
            key.encode(out);
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let mut set = BTreeSet::new();
        for _ in 0..from.count()? {
            let key = K::decode(from)?;
            if set.last().is_some_and(|last| *last >= key) {
                return Err(DecodeError::Invalid {
                    what: "order of a set",
                });
            }
            set.insert(key);
        }
        Ok(set)
    }
}

impl<T: Canonical> Canonical for Arc<T> {
    fn encode(&self, out: &mut Encoder) {
        T::encode(self, out);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        T::decode(from).map(Arc::new)
    }
}

impl<T: Canonical, E: Canonical> Canonical for Result<T, E> {
    fn encode(&self, out: &mut Encoder) {
        self.is_ok().encode(out);
        match self {
            Ok(value) => value.encode(out),
            Err(error) => error.encode(out),
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::decode(from)? {
            Ok(T::decode(from)?)
        } else {
            Err(E::decode(from)?)
        })
    }
}

impl<T: Canonical> Canonical for Arc<[T]> {
    fn encode(&self, out: &mut Encoder) {
        out.count(self.len());
        self.iter().for_each(|item| item.encode(out));
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Vec::<T>::decode(from).map(Arc::from)
    }
}

/// A record: its fields, in this order.
macro_rules! canonical_struct {
    ($t:ty { $($field:ident),* $(,)? }) => {
        impl $crate::canonical::Canonical for $t {
            fn encode(&self, out: &mut $crate::canonical::Encoder) {
                $($crate::canonical::Canonical::encode(&self.$field, out);)*
            }

            fn decode(from: &mut $crate::canonical::Decoder<'_>) -> Result<Self, $crate::canonical::DecodeError> {
                Ok(Self { $($field: $crate::canonical::Canonical::decode(from)?),* })
            }
        }
    };
}
pub(crate) use canonical_struct;

/// One of several: a byte, then the fields in this order.
macro_rules! canonical_enum {
    ($t:ident { $($number:literal => $variant:ident { $($field:ident),* $(,)? }),* $(,)? }) => {
        impl $crate::canonical::Canonical for $t {
            fn encode(&self, out: &mut $crate::canonical::Encoder) {
                match self {
                    $($t::$variant { $($field),* } => {
                        out.byte($number);
                        $($crate::canonical::Canonical::encode($field, out);)*
                    })*
                }
            }

            fn decode(from: &mut $crate::canonical::Decoder<'_>) -> Result<Self, $crate::canonical::DecodeError> {
                match from.byte()? {
                    $($number => Ok($t::$variant { $($field: $crate::canonical::Canonical::decode(from)?),* }),)*
                    _ => Err($crate::canonical::DecodeError::Invalid { what: stringify!($t) }),
                }
            }
        }
    };
}
pub(crate) use canonical_enum;

/// A word of the domain: an enumeration without data, spelled in bytes, JSON and messages alike.
macro_rules! words {
    ($(#[$doc:meta])* $t:ident: $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $t {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant),*
        }

        impl $t {
            /// All of them.
            pub const ALL: &'static [$t] = &[$($t::$variant),*];

            /// How it is spelled.
            pub const fn as_str(self) -> &'static str {
                match self { $($t::$variant => $word),* }
            }

            /// What this spells, if anything.
            pub fn parse(word: &str) -> Option<$t> {
                match word { $($word => Some($t::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $t {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::canonical::Canonical for $t {
            fn encode(&self, out: &mut $crate::canonical::Encoder) {
                out.text(self.as_str());
            }

            fn decode(from: &mut $crate::canonical::Decoder<'_>) -> Result<Self, $crate::canonical::DecodeError> {
                $t::parse(from.text()?).ok_or($crate::canonical::DecodeError::Invalid { what: $what })
            }
        }
    };
}
pub(crate) use words;
