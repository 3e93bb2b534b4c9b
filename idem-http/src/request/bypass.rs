//! Which requests bypass the layer: those that need no key, and those that the layer cannot store.

use http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Method, Request};

/// The methods that are guarded by default. The others are safe, idempotent by themselves, or open a tunnel.
pub(crate) const GUARDED_METHODS: [Method; 2] = [Method::POST, Method::PATCH];

/// Whether a request bypasses the layer, with or without a key.
pub(crate) fn bypasses<B>(request: &Request<B>, guarded_methods: &[Method]) -> bool {
    !guarded_methods.contains(request.method()) || is_grpc(request.headers()) || is_upgrade(request.headers())
}

/// gRPC streams in both directions, and reports how a call ended in the trailers. Its methods use the engine directly,
/// per message.
fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let Some((start, rest)) = content_type.split_at_checked(GRPC.len()) else { return false };
    // `application/grpc+proto`, `application/grpc-web`, `application/grpc; ..`, but not `application/grpcx`.
    start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '))
}

/// Whether the connection changes to another protocol than HTTP. An offer of HTTP/2 does not count: some clients send it
/// with their first request, which must not lose its protection.
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

    fn bypasses_with(method: Method, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        bypasses(&request.body(()).unwrap(), &GUARDED_METHODS)
    }

    #[test]
    fn safe_and_idempotent_methods_bypass_the_layer() {
        use Method as M;
        for method in [M::GET, M::HEAD, M::OPTIONS, M::PUT, M::DELETE, M::TRACE, M::CONNECT] {
            assert!(bypasses_with(method.clone(), &[]), "{method}");
        }
        assert!(!bypasses_with(M::POST, &[]) && !bypasses_with(M::PATCH, &[]));
    }

    #[test]
    fn grpc_bypasses_the_layer() {
        for content_type in ["application/grpc", "application/grpc+proto", "Application/gRPC-Web"] {
            assert!(bypasses_with(Method::POST, &[("content-type", content_type)]), "{content_type}");
        }
        for content_type in ["application/json", "application/grpcx", "application/grp"] {
            assert!(!bypasses_with(Method::POST, &[("content-type", content_type)]), "{content_type}");
        }
    }

    #[test]
    fn an_upgrade_bypasses_the_layer_and_an_offer_of_another_http_version_does_not() {
        let offer = |connection, upgrade| {
            bypasses_with(Method::POST, &[("connection", connection), ("upgrade", upgrade)])
        };
        assert!(offer("keep-alive, Upgrade", "websocket"));
        assert!(!offer("Upgrade, HTTP2-Settings", "h2c"));
        assert!(!offer("Upgrade", "TLS/1.3"));
        assert!(!offer("keep-alive", "websocket"));
        assert!(!offer("upgrade", ""));
    }
}
