//! The name of a record's key on the server: the store's prefix, and 38 hexadecimal digits of the key's digest.
//!
//! The digest keeps customers' data out of the server's logs, and keeps characters of a key from having a meaning there:
//! no `{}` decides a slot, and no `*` is a pattern.
//!
//! 38 digits are 152 bits. With `idem:` in front they are 43 bytes, and the allocator's class of 48 takes up to 44; all 64
//! digits would need the class of 80. A *collision*, two keys with one name, has a probability of about n^2 / 2^153 for n
//! keys that live at the same time: 10^-22 for a trillion. An attacker who searches for a collision among keys of their
//! own choice needs 2^76 hashes; to hit a given key of another client takes 2^152. And a collision does not show another
//! client's answer: the fingerprint differs, and all its 256 bits are kept.

use idem_core::Key;

/// How many bytes of the digest are in the name.
const DIGEST_BYTES: usize = 19;

/// The name of the key's record.
pub(crate) fn name(prefix: &str, key: &Key) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = key.digest();
    let mut name = Vec::with_capacity(prefix.len() + 2 * DIGEST_BYTES);
    name.extend_from_slice(prefix.as_bytes());
    for byte in &digest.as_bytes()[..DIGEST_BYTES] {
        name.push(DIGITS[usize::from(byte >> 4)]);
        name.push(DIGITS[usize::from(byte & 15)]);
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

    use super::*;

    #[test]
    fn the_name_is_the_prefix_and_the_beginning_of_the_digest() {
        let key = Key::new("tenant", "request").unwrap();
        let name = name("idem:", &key);
        assert_eq!(name, format!("idem:{}", &key.digest().to_hex()[..38]).into_bytes());
        assert_eq!(
            name.len(),
            43,
            "with the server's 4 bytes around a string it fits the allocator's class of 48"
        );
    }

    /// Names are part of the format: with another one, the records of an earlier release would not be found.
    #[test]
    fn the_name_of_a_key_never_changes() {
        let key = Key::new("tenant", "request").unwrap();
        assert_eq!(
            String::from_utf8(name("idem:", &key)).unwrap(),
            "idem:911a3a866b5de84f536ede4688e61d02c80cc4"
        );
    }
}
