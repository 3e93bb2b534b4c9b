//! [`Scope`]: whose requests these are. Keys of one scope mean nothing in another.

use http::request::Parts;
use http::{Method, StatusCode};
use idem_core::Fingerprint;
use thiserror::Error;

/// Whom a key belongs to: a tenant, an account, a team. Made by the function given to
/// [`scope`](crate::LayerBuilder::scope) for each request.
///
/// Name the *principal*, and not the credential: an account keeps its keys when its token is rotated, and a token has
/// no business in a store.
///
/// ```
/// use idem_http::{Scope, ScopeError};
///
/// #[derive(Clone)]
/// struct Tenant(String); // what the authentication outside of the layer found out
///
/// fn scope(parts: &http::request::Parts) -> Result<Scope, ScopeError> {
///     let tenant = parts.extensions.get::<Tenant>().ok_or(ScopeError::unauthenticated())?;
///     Scope::principal(&tenant.0)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    principal: Vec<u8>,
}

impl Scope {
    /// The scope of a principal, of any bytes. Fails as [`unauthenticated`](ScopeError::unauthenticated) if there are
    /// none: a missing name that became an empty one must not be everybody's.
    pub fn principal(principal: impl AsRef<[u8]>) -> Result<Self, ScopeError> {
        let principal = principal.as_ref();
        if principal.is_empty() {
            return Err(ScopeError::unauthenticated());
        }
        Ok(Self { principal: principal.to_owned() })
    }

    /// The one scope of a service whose callers are all the same.
    pub(crate) fn everybody() -> Self {
        Self { principal: Vec::new() }
    }

    /// The scope of the lookup key: 64 hexadecimal digits of the length-prefixed principal, method and operation.
    ///
    /// Requests without a key are in a scope of their own, so that no client's key can name one of them.
    pub(crate) fn of_key(&self, method: &Method, operation: &str, branch: Branch) -> Hex {
        let parts = [&self.principal, method.as_str().as_bytes(), operation.as_bytes()];
        let digest = match branch {
            Branch::Key => Fingerprint::from_parts(parts),
            Branch::Fingerprint => Fingerprint::from_parts(parts.into_iter().chain([&b"fingerprint"[..]])),
        };
        hex(digest.as_bytes())
    }
}

/// Which of the two names of a request is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    /// The key that its client sent.
    Key,
    /// The request itself.
    Fingerprint,
}

/// The request has no scope, and is refused with this status. Its body is an `application/problem+json`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the request has no scope: it is refused with {status}")]
#[non_exhaustive]
pub struct ScopeError {
    /// What the client is answered.
    pub status: StatusCode,
}

impl ScopeError {
    /// Nobody knows whose request this is: 401.
    pub fn unauthenticated() -> Self {
        Self { status: StatusCode::UNAUTHORIZED }
    }

    /// The request is refused with this status.
    pub fn refused(status: StatusCode) -> Self {
        Self { status }
    }
}

/// The function that names a request's scope.
pub(crate) type ScopeOf = dyn Fn(&Parts) -> Result<Scope, ScopeError> + Send + Sync;

/// 32 bytes in hexadecimal digits.
pub(crate) type Hex = [u8; 64];

pub(crate) fn hex(bytes: &[u8; 32]) -> Hex {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = [0; 64];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(bytes) {
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
            Scope::everybody().of_key(&Method::POST, "/db", Branch::Key),
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
    fn an_empty_principal_is_nobody_and_not_everybody() {
        assert_eq!(Scope::principal(""), Err(ScopeError::unauthenticated()));
    }
}
