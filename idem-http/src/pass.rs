//! Which requests pass the layer by: those that are none of its business, and those that it cannot hold.

use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Method, Request};

/// The methods that are guarded by default. The others are safe or idempotent by themselves, or are a tunnel.
pub(crate) const GUARDED: [Method; 2] = [Method::POST, Method::PATCH];

/// Whether a request passes by, whatever key it has.
pub(crate) fn passes_by<B>(request: &Request<B>, guarded: &[Method]) -> bool {
    !guarded.contains(request.method()) || is_grpc(request.headers()) || is_upgrade(request.headers())
}

/// gRPC has streams in both directions and says how a call ended in its trailers. Deduplicate its methods through the
/// engine, by message.
fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let Some((start, rest)) = content_type.split_at_checked(GRPC.len()) else { return false };
    // `application/grpc+proto`, `application/grpc-web`, `application/grpc; ..`, and no other type that begins like it.
    start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '))
}

/// Whether the connection is to become something else than HTTP. An offer of HTTP/2 is not one: some clients make it
/// with their first request, whatever that is, and it must not cost that request its protection.
fn is_upgrade(headers: &HeaderMap) -> bool {
    let tokens = |name| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
    };
    tokens(CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && tokens(UPGRADE).any(|protocol| {
            !["h2c", "h2", "http/2.0", "http/1.1"].iter().any(|http| protocol.eq_ignore_ascii_case(http))
                && !protocol.to_ascii_lowercase().starts_with("tls/")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(method: Method, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        passes_by(&request.body(()).unwrap(), &GUARDED)
    }

    #[test]
    fn safe_and_idempotent_methods_pass_by() {
        use Method as M;
        for method in [M::GET, M::HEAD, M::OPTIONS, M::PUT, M::DELETE, M::TRACE, M::CONNECT] {
            assert!(passes(method.clone(), &[]), "{method}");
        }
        assert!(!passes(M::POST, &[]) && !passes(M::PATCH, &[]));
    }

    #[test]
    fn grpc_passes_by() {
        for content_type in ["application/grpc", "application/grpc+proto", "Application/gRPC-Web"] {
            assert!(passes(Method::POST, &[("content-type", content_type)]), "{content_type}");
        }
        for content_type in ["application/json", "application/grpcx", "application/grp"] {
            assert!(!passes(Method::POST, &[("content-type", content_type)]), "{content_type}");
        }
    }

    #[test]
    fn an_upgrade_passes_by_and_an_offer_of_another_http_version_does_not() {
        let offer =
            |connection, upgrade| passes(Method::POST, &[("connection", connection), ("upgrade", upgrade)]);
        assert!(offer("keep-alive, Upgrade", "websocket"));
        assert!(!offer("Upgrade, HTTP2-Settings", "h2c"));
        assert!(!offer("Upgrade", "TLS/1.3"));
        assert!(!offer("keep-alive", "websocket"));
        assert!(!offer("upgrade", ""));
    }
}
