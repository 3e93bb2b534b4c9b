//! [`Fingerprint`]: tells a repeated request from another request with the same key.

use std::fmt;

/// 256 bits that identify a request's payload: BLAKE3 over its length-prefixed parts.
///
/// Two requests with one key and different fingerprints are a mistake of the client. The second one is refused and sees
/// nothing of the first. BLAKE3 is collision-resistant: a client cannot make a second payload with the same fingerprint.
///
/// ```
/// use idem_core::Fingerprint;
///
/// let fingerprint = Fingerprint::from_parts(["POST", "/payments", r#"{"amount": 100}"#]);
/// assert_ne!(fingerprint, Fingerprint::from_parts(["POST", "/payments", r#"{"amount": 900}"#]));
/// // The borders between parts count:
/// assert_ne!(Fingerprint::from_parts(["ab", "c"]), Fingerprint::from_parts(["a", "bc"]));
/// // One part:
/// assert_eq!(Fingerprint::from_bytes_of("ab"), Fingerprint::from_parts(["ab"]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes the parts in their order. Each part is preceded by its length (64 bits, little endian), so `["ab", "c"]` and
    /// `["a", "bc"]` differ.
    pub fn from_parts(parts: impl FingerprintParts) -> Self {
        let mut hasher = blake3::Hasher::new();
        parts.for_each_part(|part| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        });
        Self(*hasher.finalize().as_bytes())
    }

    /// Hashes one part: the same as [`from_parts`](Self::from_parts) with only this part.
    pub fn from_bytes_of(part: impl AsRef<[u8]>) -> Self {
        Self::from_parts([part])
    }

    /// The fingerprint with these bytes: for backends that read one from storage, and for callers that use another hash
    /// function.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Shows the first 16 hexadecimal digits.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(")?;
        self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// The parts of a request, for [`Fingerprint::from_parts`]: an array, a `Vec` or any iterator of strings or byte slices.
///
/// The trait is sealed. It exists so that the compiler can say what to pass.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a list of fingerprint parts",
    label = "expected an array or an iterator of strings or byte slices",
    note = "pass all parts as one type, for example `Fingerprint::from_parts([\"POST\".as_bytes(), path.as_bytes(), &body])`",
    note = "for a single part, use `Fingerprint::from_bytes_of(body)`"
)]
pub trait FingerprintParts: sealed::Sealed {
    #[doc(hidden)]
    fn for_each_part(self, update: impl FnMut(&[u8]));
}

impl<I: IntoIterator<Item: AsRef<[u8]>>> FingerprintParts for I {
    fn for_each_part(self, mut update: impl FnMut(&[u8])) {
        self.into_iter().for_each(|part| update(part.as_ref()));
    }
}

mod sealed {
    pub trait Sealed {}

    impl<I: IntoIterator<Item: AsRef<[u8]>>> Sealed for I {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_order_and_empty_parts_all_count() {
        let distinct = [
            Fingerprint::from_parts(["ab", "c"]),
            Fingerprint::from_parts(["a", "bc"]),
            Fingerprint::from_parts(["c", "ab"]),
            Fingerprint::from_parts(["ab", "c", ""]),
            Fingerprint::from_parts(["abc"]),
            Fingerprint::from_parts([""; 0]),
        ];
        for (i, left) in distinct.iter().enumerate() {
            for right in &distinct[i + 1..] {
                assert_ne!(left, right);
            }
        }
    }

    #[test]
    fn the_hash_never_changes_between_releases() {
        // Stored fingerprints outlive a deployment: this value is part of the storage format.
        let fingerprint = Fingerprint::from_parts(["POST", "/payments", "{}"]);
        assert_eq!(format!("{fingerprint:?}"), "Fingerprint(36ed4cced0ae8815)");
    }
}
