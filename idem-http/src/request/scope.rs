//! [`Scope`]: whose request it is. A key means nothing outside its scope.

use http::{Method, StatusCode};
use idem_core::Fingerprint;
use thiserror::Error;

/// The owner of a key: a tenant, an account or a team.
///
/// The function that you pass to [`scope`](crate::IdempotencyLayerBuilder::scope) returns one for each request; see the
/// example on [the crate's front page](crate). Name the *principal*, not the credential: an account keeps its keys when
/// its token is rotated, and a token must not get into a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    principal: Vec<u8>,
}

impl Scope {
    /// The scope of a principal, named by any bytes.
    ///
    /// An empty name is an error ([`unauthenticated`](ScopeError::unauthenticated)), because a missing name must not
    /// become a scope that all clients share.
    pub fn principal(principal: impl AsRef<[u8]>) -> Result<Self, ScopeError> {
        let principal = principal.as_ref();
        if principal.is_empty() {
            return Err(ScopeError::unauthenticated());
        }
        Ok(Self { principal: principal.to_owned() })
    }

    /// The one scope of an unscoped layer.
    pub(crate) fn shared() -> Self {
        Self { principal: Vec::new() }
    }

    /// The scope of the lookup key: a digest of the principal, the method and the operation, each with its length.
    ///
    /// Requests without a key have scopes of their own, so that no client's key can name one of them.
    pub(crate) fn of_key(&self, method: &Method, operation: &str, branch: Branch) -> HexDigest {
        let parts = [&self.principal, method.as_str().as_bytes(), operation.as_bytes()];
        let digest = match branch {
            Branch::Key => Fingerprint::from_parts(parts),
            Branch::Fingerprint => Fingerprint::from_parts(parts.into_iter().chain([&b"fingerprint"[..]])),
        };
        hex(digest.as_bytes())
    }
}

/// How a request is identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    /// By the key that its client sent.
    Key,
    /// By its content.
    Fingerprint,
}

/// The request has no scope and is refused with this status, as `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the request has no scope and is refused with {status}")]
#[non_exhaustive]
pub struct ScopeError {
    /// The status that the client gets.
    pub status: StatusCode,
}

impl ScopeError {
    /// The principal is unknown: 401.
    pub fn unauthenticated() -> Self {
        Self { status: StatusCode::UNAUTHORIZED }
    }

    /// The request is refused with this status.
    pub fn refused(status: StatusCode) -> Self {
        Self { status }
    }
}

/// A digest in 64 hexadecimal digits.
pub(crate) type HexDigest = [u8; 64];

pub(crate) fn hex(digest: &[u8; 32]) -> HexDigest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 64];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_method_operation_and_branch_all_count() {
        let scope = |principal, method: Method, operation, branch| {
            Scope::principal(principal).unwrap().of_key(&method, operation, branch)
        };
        let distinct = [
            scope("a", Method::POST, "/db", Branch::Key),
            scope("b", Method::POST, "/db", Branch::Key),
            scope("a", Method::PATCH, "/db", Branch::Key),
            scope("a", Method::POST, "/cache", Branch::Key),
            scope("aP", Method::POST, "/db", Branch::Key),
            scope("a", Method::POST, "/db", Branch::Fingerprint),
            Scope::shared().of_key(&Method::POST, "/db", Branch::Key),
        ];
        for (i, left) in distinct.iter().enumerate() {
            assert!(left.iter().all(u8::is_ascii_hexdigit));
            assert!(distinct[i + 1..].iter().all(|right| left != right));
        }
    }

    #[test]
    fn the_scope_of_a_key_never_changes_between_releases() {
        // Stored keys outlive a deployment: this value is part of the storage format.
        let scope = Scope::principal("team-7").unwrap().of_key(&Method::POST, "/db", Branch::Key);
        assert_eq!(scope, *b"3a727d632eee208c9ed5188410d4ca3fce0244fbdce41ba3863557f50203379d");
    }

    #[test]
    fn an_empty_principal_is_an_error_and_not_the_shared_scope() {
        assert_eq!(Scope::principal(""), Err(ScopeError::unauthenticated()));
    }
}
