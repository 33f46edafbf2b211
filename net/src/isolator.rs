//! Credentials that keep connections apart.

use std::fmt;
use std::io;
use std::sync::OnceLock;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::isolation::IsolationKey;

/// Makes up credentials: new ones each time, or the same for the same key. Neither the key, nor that two networks
/// were given the same one, can be told from them.
#[derive(Default)]
pub(crate) struct Isolator {
    /// What makes the credentials of a key differ from those of the same key elsewhere.
    salt: OnceLock<[u8; 32]>,
}

impl Isolator {
    /// A user name and a password, of hexadecimal digits.
    ///
    /// # Errors
    ///
    /// If the operating system has no random bytes.
    pub(crate) fn credentials(&self, key: Option<&IsolationKey>) -> io::Result<[String; 2]> {
        let bytes = match key {
            None => random()?,
            Some(key) => {
                Sha256::new().chain_update(self.salt()?).chain_update(key.as_str()).finalize().into()
            }
        };
        let (username, password) = bytes.split_at(bytes.len() / 2);
        // Tor gives a meaning to user names that begin with `<torS0X>`; these never do.
        Ok([username, password].map(|half| HEXLOWER.encode(half)))
    }

    fn salt(&self) -> io::Result<&[u8; 32]> {
        if let Some(salt) = self.salt.get() {
            return Ok(salt);
        }
        let salt = random()?;
        Ok(self.salt.get_or_init(|| salt))
    }
}

impl fmt::Debug for Isolator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Isolator")
    }
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_has_the_same_credentials_and_no_others_do() {
        let (one, other) = (Isolator::default(), Isolator::default());
        let key = |text: &str| text.parse::<IsolationKey>().unwrap();
        let of = |isolator: &Isolator, text| isolator.credentials(Some(&key(text))).unwrap();
        assert_eq!(of(&one, "a"), of(&one, "a"));
        let distinct = [
            of(&one, "a"),
            of(&one, "b"),
            of(&other, "a"),
            one.credentials(None).unwrap(),
            one.credentials(None).unwrap(),
        ];
        for (index, credentials) in distinct.iter().enumerate() {
            assert!(distinct[..index].iter().flatten().all(|earlier| !credentials.contains(earlier)));
        }
    }
}
