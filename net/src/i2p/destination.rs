//! Destinations, which are the addresses of I2P, their private keys, and names for them.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::endpoint::{Host, HostName};
use crate::i2p::error::SamError;
use crate::secret::Secret;

/// Base 64 with the last two characters that I2P has.
static BASE64: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-~");
    specification.padding = Some('=');
    specification.encoding().expect("the alphabet is one")
});

/// The keys at the beginning of a destination, and the type and the length of the certificate behind them.
const KEYS_LEN: usize = 256 + 128;
const SHORTEST: usize = KEYS_LEN + 3;

/// What a destination on I2P is reached by: its public keys.
///
/// In text it is base 64 in the alphabet of I2P. [`host_name`](Destination::host_name) is the short form, which is a
/// hash of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Destination(Box<[u8]>);

impl Destination {
    /// Its name, `….b32.i2p`: what others connect to.
    ///
    /// # Panics
    ///
    /// Never: such a name has 60 letters, digits and dots.
    pub fn host_name(&self) -> HostName {
        let hash = BASE32_NOPAD.encode(&Sha256::digest(&self.0)).to_ascii_lowercase();
        format!("{hash}.b32.i2p").parse().expect("base 32 is letters and digits")
    }

    /// How many of these bytes are a destination that they begin with.
    fn len_in(bytes: &[u8]) -> Result<usize, DestinationError> {
        let header = bytes.get(KEYS_LEN..SHORTEST).ok_or(DestinationError::TooShort)?;
        let len = SHORTEST + usize::from(u16::from_be_bytes([header[1], header[2]]));
        if bytes.len() < len { Err(DestinationError::TooShort) } else { Ok(len) }
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| DestinationError::Base64)?;
        if Self::len_in(&bytes)? != bytes.len() {
            return Err(DestinationError::TooLong);
        }
        Ok(Self(bytes.into()))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({})", self.host_name())
    }
}

/// The private keys of a destination, and with them the destination itself: who has them can be at its address.
///
/// In text it is what a router calls a private key: base 64 in the alphabet of I2P of the destination and its keys,
/// such as `DEST GENERATE` gives. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey {
    text: Secret,
    destination: Destination,
}

impl PrivateKey {
    /// The key of this text.
    ///
    /// # Errors
    ///
    /// [`DestinationError`], which does not show the text.
    pub fn new(text: Secret) -> Result<Self, DestinationError> {
        let decoded = BASE64.decode(text.expose().as_bytes()).map_err(|_| DestinationError::Base64)?;
        let bytes = Zeroizing::new(decoded);
        let len = Destination::len_in(&bytes)?;
        if bytes.len() == len {
            return Err(DestinationError::Public);
        }
        Ok(Self { destination: Destination(bytes[..len].into()), text })
    }

    /// Returns the key as a secret.
    pub(super) const fn text(&self) -> &Secret {
        &self.text
    }

    /// The destination.
    pub const fn destination(&self) -> &Destination {
        &self.destination
    }

    /// The text, to be kept where nobody else reads it.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(<secret> of {})", self.destination.host_name())
    }
}

/// A text is no destination, or no private key of one. The text is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DestinationError {
    /// It is not base 64.
    #[error("a destination is base 64 in the alphabet of I2P, with `-` and `~`, and padded with `=`")]
    Base64,
    /// It ends too early.
    #[error("a destination has at least {SHORTEST} bytes, and as many more as it says itself")]
    TooShort,
    /// Something comes behind it. It may be a private key.
    #[error("something comes behind the destination")]
    TooLong,
    /// It is a destination without its private keys.
    #[error(
        "this is a destination without its private keys; a private key is what `DEST GENERATE` gives as `PRIV`"
    )]
    Public,
}

/// A name that ends in `.i2p`, in lower case: from an address book, or a `.b32.i2p` made of the destination itself.
/// As any [`HostName`] it has nothing in it that a line of the protocol could end with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct I2pName(Box<str>);

impl I2pName {
    pub(super) fn new(name: &HostName) -> Result<Self, SamError> {
        let name = name.as_str().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        match name.rsplit_once('.') {
            Some((_, "i2p")) => Ok(Self(name.into())),
            _ => Err(SamError::NotI2p),
        }
    }

    pub(super) fn of(host: &Host) -> Result<Self, SamError> {
        match host {
            Host::Name(name) => Self::new(name),
            Host::Address(_) => Err(SamError::NotI2p),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for I2pName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A destination with a certificate of this length, and more behind it.
    fn encoded(certificate: u8, more: usize) -> String {
        let mut bytes = vec![7; KEYS_LEN];
        bytes.extend([5, 0, certificate]);
        bytes.resize(bytes.len() + usize::from(certificate) + more, 9);
        BASE64.encode(&bytes)
    }

    #[test]
    fn the_name_is_the_hash() {
        // The destination of a session of i2pd 2.45.1, and the name by which that router finds it.
        let text = concat!(
            "fKzr-1bZKfr15CS8SZgtN92rc3zdDDlX1Ms2XLjgmkJ8rOv7Vtkp-vXkJLxJmC033atzfN0MOVfUyzZcuOCaQnys6~tW2Sn69eQkvEmY",
            "LTfdq3N83Qw5V9TLNly44JpCfKzr-1bZKfr15CS8SZgtN92rc3zdDDlX1Ms2XLjgmkJ8rOv7Vtkp-vXkJLxJmC033atzfN0MOVfUyzZc",
            "uOCaQnys6~tW2Sn69eQkvEmYLTfdq3N83Qw5V9TLNly44JpCfKzr-1bZKfr15CS8SZgtN92rc3zdDDlX1Ms2XLjgmkJ8rOv7Vtkp-vXk",
            "JLxJmC033atzfN0MOVfUyzZcuOCaQnys6~tW2Sn69eQkvEmYLTfdq3N83Qw5V9TLNly44JpCfKzr-1bZKfr15CS8SZgtN92rc3zdDDlX",
            "1Ms2XLjgmkJ8rOv7Vtkp-vXkJLxJmC033atzfN0MOVfUyzZcuOCaQi0ms2KolhTKrJrr5CuWmU7kaGO0mJSvoEdz4dzLgh17BQAEAAcA",
            "AA==",
        );
        let destination: Destination = text.parse().unwrap();
        let name = "7askagzwkhsmisjlbuwbfkmdz36hcgsqfxnjpsg3zdwnvqsuml2q.b32.i2p";
        assert_eq!(destination.host_name().as_str(), name);
        assert_eq!(destination.to_string(), text);
        assert_eq!(format!("{destination:?}"), format!("Destination({name})"));
    }

    #[test]
    fn a_destination_is_as_long_as_it_says() {
        assert!(encoded(4, 0).parse::<Destination>().is_ok());
        let error = |text: &str| text.parse::<Destination>().unwrap_err();
        assert_eq!(error(&encoded(4, 1)), DestinationError::TooLong);
        assert_eq!(error(&BASE64.encode(&[0; SHORTEST - 1])), DestinationError::TooShort);
        let mut bytes = vec![0; SHORTEST];
        bytes[KEYS_LEN + 2] = 1;
        assert_eq!(error(&BASE64.encode(&bytes)), DestinationError::TooShort);
        for text in ["", "stats.i2p", "a+b/", "A"] {
            let expected =
                if text.is_empty() { DestinationError::TooShort } else { DestinationError::Base64 };
            assert_eq!(error(text), expected, "{text}");
        }
    }

    #[test]
    fn a_private_key_has_more_than_the_destination_and_is_not_shown() {
        let text = encoded(4, 288);
        let key = PrivateKey::new(Secret::new(text.clone())).unwrap();
        assert_eq!(key.destination().to_string(), encoded(4, 0));
        assert_eq!(key.expose(), text);
        let shown = format!("{key:?}");
        assert!(!shown.contains(&text[..20]) && shown.contains(".b32.i2p"), "{shown}");
        assert_eq!(PrivateKey::new(Secret::new(encoded(4, 0))), Err(DestinationError::Public));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[A-Za-z0-9~=-]{0,600}") {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string(), text.clone());
                let _ = destination.host_name();
            }
            let _ = PrivateKey::new(Secret::new(text));
        }
    }

    #[test]
    fn only_names_of_i2p_are() {
        for text in ["stats.i2p", "Stats.I2P", "stats.i2p."] {
            assert_eq!(I2pName::of(&text.parse().unwrap()).unwrap().as_str(), "stats.i2p");
        }
        for text in ["i2p", "example.com", "example.i2p.com", "stats.xi2p", "127.0.0.1", "::1"] {
            assert!(matches!(I2pName::of(&text.parse().unwrap()), Err(SamError::NotI2p)), "{text}");
        }
    }
}
