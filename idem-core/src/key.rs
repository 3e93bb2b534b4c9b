//! [`Key`]: two requests with one key are the same request.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The most bytes that a scope or a name may have.
pub const MAX_PART_BYTES: usize = 255;

/// Identifies one operation that must happen at most once: a scope and a name, each 1 to 255 bytes of any value.
///
/// The *scope* says whose request it is, for example a tenant, an endpoint or a queue. The *name* says which one it is,
/// for example the `Idempotency-Key` header or a message id. `("a:b", "c")` and `("a", "b:c")` are different keys on
/// every backend.
///
/// Bytes are compared as they are: case, trailing blanks and Unicode normalisation forms matter. A clone shares the bytes.
///
/// ```
/// use idem_core::Key;
///
/// let key = Key::new("tenant-7/POST /payments", "8e03978e-40d5-43dd-bc93-6894a57f9324")?;
/// assert_eq!(key.scope(), b"tenant-7/POST /payments");
/// assert_ne!(Key::new("a:b", "c")?, Key::new("a", "b:c")?);
/// # Ok::<(), idem_core::InvalidKey>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// One byte of scope length, the scope, the name. The length makes the pair unambiguous. One allocation is cheap to
    /// hash, compare and share.
    bytes: Arc<[u8]>,
}

impl Key {
    /// Makes a key from its two parts. Fails if either is empty or longer than [`MAX_PART_BYTES`].
    pub fn new(scope: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Result<Self, InvalidKey> {
        let (scope, name) = (scope.as_ref(), name.as_ref());
        let scope_len = checked_len("scope", scope)?;
        checked_len("name", name)?;

        // Assembled on the stack and copied once. A collected iterator would be written byte by byte.
        let mut bytes = [0; 1 + 2 * MAX_PART_BYTES];
        let (border, end) = (1 + scope.len(), 1 + scope.len() + name.len());
        bytes[0] = scope_len;
        bytes[1..border].copy_from_slice(scope);
        bytes[border..end].copy_from_slice(name);
        Ok(Self { bytes: Arc::from(&bytes[..end]) })
    }

    /// The scope, as it was given.
    pub fn scope(&self) -> &[u8] {
        self.parts().0
    }

    /// The name, as it was given.
    pub fn name(&self) -> &[u8] {
        self.parts().1
    }

    /// The key in its length-prefixed form: one byte of scope length, the scope, the name.
    ///
    /// These bytes are equal exactly if the keys are, so a backend may store, hash or index them instead of the pair.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The 256-bit BLAKE3 digest of the key. Logs show it instead of the key, which may hold personal data.
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(*blake3::hash(&self.bytes).as_bytes())
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let scope_len = usize::from(self.bytes[0]);
        self.bytes[1..].split_at(scope_len)
    }
}

/// Shows the digest and not the key, so that a customer's data does not get into logs.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.digest())
    }
}

/// The BLAKE3 digest of a [`Key`]. Prints as its first 16 hexadecimal digits, enough to find a key in a log;
/// [`to_hex`](Self::to_hex) gives all 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The whole digest as 64 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// The digest's 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyDigest({self})")
    }
}

/// Why a [`Key`] could not be made. `part` is `"scope"` or `"name"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The part has no bytes.
    #[error("the key's {part} is empty; give it 1 to {MAX_PART_BYTES} bytes")]
    Empty {
        /// The part of the key.
        part: &'static str,
    },
    /// The part has more bytes than [`MAX_PART_BYTES`].
    #[error(
        "the key's {part} has {bytes} bytes; shorten it to at most {MAX_PART_BYTES}, or use a hash of it"
    )]
    TooLong {
        /// The part of the key.
        part: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
}

fn checked_len(part: &'static str, bytes: &[u8]) -> Result<u8, InvalidKey> {
    if bytes.is_empty() {
        return Err(InvalidKey::Empty { part });
    }
    u8::try_from(bytes.len()).map_err(|_| InvalidKey::TooLong { part, bytes: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_were_given() {
        let key = Key::new([0, 255, b':'], "naïve ").unwrap();
        assert_eq!((key.scope(), key.name()), (&[0, 255, b':'][..], "naïve ".as_bytes()));
    }

    #[test]
    fn the_border_between_scope_and_name_is_part_of_the_key() {
        let (left, right) = (Key::new("a:b", "c").unwrap(), Key::new("a", "b:c").unwrap());
        assert_ne!(left, right);
        assert_ne!(left.digest(), right.digest());
        assert_ne!(Key::new("ab", "c").unwrap(), Key::new("a", "bc").unwrap());
    }

    #[test]
    fn each_part_has_1_to_255_bytes() {
        let longest = vec![b'x'; MAX_PART_BYTES];
        let too_long = vec![b'x'; MAX_PART_BYTES + 1];
        assert!(Key::new(&longest, &longest).is_ok());
        assert_eq!(Key::new("", "n").unwrap_err(), InvalidKey::Empty { part: "scope" });
        assert_eq!(Key::new("s", "").unwrap_err(), InvalidKey::Empty { part: "name" });
        assert_eq!(Key::new(&too_long, "n").unwrap_err(), InvalidKey::TooLong { part: "scope", bytes: 256 });
        assert_eq!(Key::new("s", &too_long).unwrap_err(), InvalidKey::TooLong { part: "name", bytes: 256 });
    }

    #[test]
    fn a_digest_is_the_hash_of_the_keys_bytes_in_each_of_its_forms() {
        let key = Key::new("scope", "name").unwrap();
        let (digest, hash) = (key.digest(), blake3::hash(key.as_bytes()));
        assert_eq!(digest.as_bytes(), hash.as_bytes());
        assert_eq!(digest.to_hex(), hash.to_hex().as_str());
        assert_eq!(digest.to_string(), digest.to_hex()[..16]);
        assert_eq!(format!("{digest:?}"), format!("KeyDigest({digest})"));
    }

    #[test]
    fn debug_shows_the_digest_and_not_the_key() {
        let key = Key::new("tenant", "4242-4242-4242-4242").unwrap();
        let shown = format!("{key:?}");
        assert!(!shown.contains("4242-"), "{shown}");
        assert_eq!(shown, format!("Key({})", &key.digest().to_hex()[..16]));
    }
}
