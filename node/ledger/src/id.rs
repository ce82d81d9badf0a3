//! Names: validated once, shared afterwards. Cloning one is counting a reference.

/// Why a text can't be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing at all.
    #[error("{what} must not be empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// More than 128 characters.
    #[error("{what} has {characters} characters; at most 128 are allowed")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// How many there are.
        characters: usize,
    },
    /// A control character.
    #[error("{what} contains the control character U+{character:04X}")]
    Control {
        /// Which kind of name.
        what: &'static str,
        /// The first such character.
        character: u32,
    },
    /// A label that starts with a dot.
    #[error("{what} must not start with `.`: such labels are the ledger's own")]
    Reserved {
        /// Which kind of name.
        what: &'static str,
    },
}

/// Checks 1–128 characters, no control characters, and, where `reserved`, no leading dot.
pub(crate) fn check(text: &str, what: &'static str, reserved: bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    // The fast path: short ASCII, as nearly all names are.
    if text.len() > 128 || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        let characters = text.chars().count();
        if characters > 128 {
            return Err(IdError::TooLong { what, characters });
        }
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(IdError::Control {
                what,
                character: u32::from(c),
            });
        }
    }
    if reserved && text.starts_with('.') {
        return Err(IdError::Reserved { what });
    }
    Ok(())
}

/// Declares a validated name over `Arc<str>`, ordered by its bytes.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, reserved: $reserved:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $crate::id::IdError;
            fn try_from(text: &str) -> Result<Self, Self::Error> {
                $crate::id::check(text, $what, $reserved)?;
                Ok($name(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::id::IdError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                $name::try_from(text.as_str())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::id::IdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $name::try_from(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl $crate::canonical::Canonical for $name {
            fn encode(&self, out: &mut $crate::canonical::Encoder) {
                out.text(&self.0);
            }

            fn decode(from: &mut $crate::canonical::Decoder<'_>) -> Result<Self, $crate::canonical::DecodeError> {
                let text = from.shared_text()?;
                match $crate::id::check(&text, $what, $reserved) {
                    Ok(()) => Ok($name(text)),
                    Err(_) => Err($crate::canonical::DecodeError::Invalid { what: $what }),
                }
            }
        }
    };
}
pub(crate) use name;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_bounds() {
        assert_eq!(check("", "x", false), Err(IdError::Empty { what: "x" }));
        assert_eq!(check(&"ä".repeat(128), "x", false), Ok(()));
        assert_eq!(
            check(&"ä".repeat(129), "x", false),
            Err(IdError::TooLong {
                what: "x",
                characters: 129
            })
        );
        assert_eq!(
            check("a\u{85}", "x", false),
            Err(IdError::Control {
                what: "x",
                character: 0x85
            })
        );
        assert_eq!(
            check("a\n", "x", false),
            Err(IdError::Control {
                what: "x",
                character: 10
            })
        );
        assert_eq!(check(".end", "x", true), Err(IdError::Reserved { what: "x" }));
        assert_eq!(check(".end", "x", false), Ok(()));
    }
}
