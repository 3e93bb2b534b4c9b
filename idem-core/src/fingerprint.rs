//! [`Fingerprint`]: what tells a repeated request from another request under the same key.

use std::fmt;

/// 256 bits that stand for a request's payload: BLAKE3 over its length-prefixed parts.
///
/// Two requests with one key and different fingerprints are a client's mistake; the second is refused and is shown
/// nothing of the first. BLAKE3 is collision-resistant, so a client cannot craft a payload that passes for another.
///
/// ```
/// use idem_core::Fingerprint;
///
/// let fingerprint = Fingerprint::of([&b"POST"[..], b"/payments", br#"{"amount": 100}"#]);
/// assert_ne!(fingerprint, Fingerprint::of([&b"POST"[..], b"/payments", br#"{"amount": 900}"#]));
/// // The parts' borders count:
/// assert_ne!(Fingerprint::of(["ab", "c"]), Fingerprint::of(["a", "bc"]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hashes the parts in their order. Each part is preceded by its length (64 bits, little endian), so that bytes
    /// cannot move from one part to its neighbour unnoticed.
    pub fn of<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            let part = part.as_ref();
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The fingerprint with exactly these bytes: for backends that read one from storage, and for callers who hash
    /// with a function of their own.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_order_and_empty_parts_all_count() {
        let distinct = [
            Fingerprint::of(["ab", "c"]),
            Fingerprint::of(["a", "bc"]),
            Fingerprint::of(["c", "ab"]),
            Fingerprint::of(["ab", "c", ""]),
            Fingerprint::of(["abc"]),
            Fingerprint::of::<&str>([]),
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
        let fingerprint = Fingerprint::of(["POST", "/payments", "{}"]);
        assert_eq!(format!("{fingerprint:?}"), "Fingerprint(36ed4cced0ae8815)");
    }
}
