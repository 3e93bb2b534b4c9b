//! What is stored of a response and replayed, and what is not.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use idem_http::{Disposition, Replay};

use crate::support::{Branch, Frames, Server, data, layer, on_both_branches, request, text};

on_both_branches![
    a_compressed_body_and_its_encoding_come_back_byte_for_byte,
    headers_with_several_values_keep_their_order,
    cookies_credentials_and_dates_are_sent_once_and_not_replayed,
    trailers_are_replayed,
    a_chunked_response_is_replayed_with_the_same_bytes,
    a_response_over_the_limit_is_sent_once_and_duplicates_get_409,
    an_event_stream_is_sent_as_it_arrives_and_does_not_run_again,
    an_empty_response_is_replayed_as_an_empty_one,
    authorize_replay_can_refuse_a_replay_and_keeps_the_record,
    classify_decides_what_is_stored,
];

/// `gzip` of "idem", as gzip(1) wrote it: not valid UTF-8, and every byte counts.
const GZIP: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\x4c\x49\xcd\x05\x00\x8b\x8e\x25\x9c\x04\x00\x00\x00";

async fn a_compressed_body_and_its_encoding_come_back_byte_for_byte(branch: Branch) {
    let server = Server::start(layer().build(), |_, _| async {
        let mut response = text(200, Bytes::from_static(GZIP));
        response.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
        response.headers_mut().insert("vary", HeaderValue::from_static("accept-encoding"));
        response
    })
    .await;
    let (first, replay) = (server.post(branch, "a").await, server.post(branch, "a").await);
    assert!(!first.is_replay() && replay.is_replay());
    for answer in [first, replay] {
        assert_eq!(answer.body, GZIP);
        assert_eq!(answer.headers["content-encoding"], "gzip");
        assert_eq!(answer.headers["vary"], "accept-encoding");
        assert_eq!(answer.headers["content-length"], GZIP.len().to_string());
    }
}

async fn headers_with_several_values_keep_their_order(branch: Branch) {
    let server = Server::start(layer().build(), |_, _| async {
        let mut response = text(200, "");
        for value in [&b"<a>; rel=next"[..], b"<b>, <c>", b"\xff not UTF-8"] {
            response.headers_mut().append("link", HeaderValue::from_bytes(value).unwrap());
        }
        response
    })
    .await;
    let links = |headers: &HeaderMap| headers.get_all("link").iter().cloned().collect::<Vec<_>>();
    let (first, replay) = (server.post(branch, "a").await, server.post(branch, "a").await);
    assert!(replay.is_replay());
    assert_eq!(links(&first.headers).len(), 3);
    assert_eq!(links(&first.headers), links(&replay.headers));
}

async fn cookies_credentials_and_dates_are_sent_once_and_not_replayed(branch: Branch) {
    const ONCE: [(&str, &str); 5] = [
        ("set-cookie", "session=secret"),
        ("authorization", "Bearer secret"),
        ("www-authenticate", "Basic"),
        ("x-internal", "secret"),
        ("date", "Tue, 24 Nov 2020 00:00:00 GMT"),
    ];
    let layer = layer().exclude_headers([HeaderName::from_static("x-internal")]).build();
    let server = Server::start(layer, |_, _| async {
        let mut response = text(200, "body");
        for (name, value) in ONCE {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    })
    .await;
    let first = server.post(branch, "a").await;
    assert!(ONCE.iter().all(|(name, value)| first.headers[*name] == *value));
    let replay = server.post(branch, "a").await;
    replay.assert_replay(200, "body");
    // The server that sends the replay sets its own date.
    assert_ne!(replay.headers["date"], ONCE[4].1);
    assert!(ONCE[..4].iter().all(|(name, _)| !replay.headers.contains_key(*name)), "{replay:?}");
}

async fn trailers_are_replayed(branch: Branch) {
    let server = Server::start(layer().build(), |_, _| async {
        let trailers = [(HeaderName::from_static("checksum"), HeaderValue::from_static("900150983cd24fb0"))];
        let frames = Frames::of([data("abc"), Ok(Frame::trailers(trailers.into_iter().collect()))]);
        let mut response = Response::new(Body::new(frames));
        response.headers_mut().insert("trailer", HeaderValue::from_static("checksum"));
        response
    })
    .await;
    let ask = async || {
        let mut request = request(branch, "a");
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        server.send(request).await
    };
    let (first, replay) = (ask().await, ask().await);
    first.assert_first(200, "abc");
    replay.assert_replay(200, "abc");
    assert_eq!(first.trailers.as_ref().unwrap()["checksum"], "900150983cd24fb0");
    assert_eq!(first.trailers, replay.trailers);
}

async fn a_chunked_response_is_replayed_with_the_same_bytes(branch: Branch) {
    let server = Server::start(layer().build(), |_, _| async {
        Response::new(Body::new(Frames::of([data("one "), data(""), data("two "), data("three")])))
    })
    .await;
    server.post(branch, "a").await.assert_first(200, "one two three");
    server.post(branch, "a").await.assert_replay(200, "one two three");
}

async fn a_response_over_the_limit_is_sent_once_and_duplicates_get_409(branch: Branch) {
    let bodies: [fn() -> Body; 2] = [
        // Its length is known, so it is not read at all.
        || Body::from("0123456789!"),
        // Only reading it shows that it is too long.
        || Body::new(Frames::of([data("01234"), data("56789"), data("!")])),
    ];
    for body in bodies {
        let layer = layer().max_response_bytes(10).build();
        let server = Server::start(layer, move |_, _| async move { text(201, body()) }).await;
        server.post(branch, "a").await.assert_first(201, "0123456789!");
        server.post(branch, "a").await.assert_problem(409, "idempotency_response_not_kept");
        assert_eq!(server.runs.count(), 1);
    }
    let layer = layer().max_response_bytes(11).build();
    let server = Server::start(layer, move |_, _| async move { text(201, bodies[1]()) }).await;
    server.post(branch, "a").await.assert_first(201, "0123456789!");
    server.post(branch, "a").await.assert_replay(201, "0123456789!");
}

async fn an_event_stream_is_sent_as_it_arrives_and_does_not_run_again(branch: Branch) {
    use http_body_util::BodyExt;

    let (sender, events) = Frames::new();
    let events = std::sync::Arc::new(std::sync::Mutex::new(Some(events)));
    let server = Server::start(layer().build(), move |_, _| {
        let events = events.lock().unwrap().take().unwrap();
        async move {
            let mut response = Response::new(Body::new(events));
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
            response
        }
    })
    .await;
    let mut connection = server.connect().await;
    let mut stream = connection.send_request(request(branch, "a")).await.unwrap().into_body();
    // The head arrives before the first event, and each event before the next one is sent.
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        sender.send(data(event)).unwrap();
        assert_eq!(stream.frame().await.unwrap().unwrap().into_data().unwrap(), event);
    }
    server.post(branch, "a").await.assert_problem(409, "idempotency_response_not_kept");
    assert_eq!(server.runs.count(), 1);
}

async fn an_empty_response_is_replayed_as_an_empty_one(branch: Branch) {
    let server = Server::start(layer().build(), |_, _| async { text(204, "") }).await;
    server.post(branch, "a").await.assert_first(204, "");
    server.post(branch, "a").await.assert_replay(204, "");
}

async fn authorize_replay_can_refuse_a_replay_and_keeps_the_record(branch: Branch) {
    let authorize = |request: &http::request::Parts, stored: &http::Response<()>| {
        assert_eq!(stored.headers()["owner"], "me");
        let is_revoked = request.headers.contains_key("revoked");
        if is_revoked { Replay::Refuse } else { Replay::Allow }
    };
    let server = Server::start(layer().authorize_replay(authorize).build(), |run, _| async move {
        let mut response = text(201, format!("run {run}"));
        response.headers_mut().insert("owner", HeaderValue::from_static("me"));
        response
    })
    .await;
    server.post(branch, "a").await.assert_first(201, "run 1");
    let mut revoked = request(branch, "a");
    revoked.headers_mut().insert("revoked", HeaderValue::from_static("yes"));
    let refused = server.send(revoked).await;
    refused.assert_problem(403, "idempotency_replay_refused");
    assert!(!refused.headers.contains_key("owner"));
    server.post(branch, "a").await.assert_replay(201, "run 1");
    assert_eq!(server.runs.count(), 1);
}

async fn classify_decides_what_is_stored(branch: Branch) {
    let classify = |response: &http::response::Parts| match response.status.as_u16() {
        404 => Disposition::Store,
        202 => Disposition::Release,
        200 => Disposition::NotKept,
        _ => Disposition::default_for(response),
    };
    let server = Server::start(layer().classify(classify).build(), |run, request: Request| async move {
        let body = axum::body::to_bytes(request.into_body(), 100).await.unwrap();
        text(std::str::from_utf8(&body).unwrap().parse().unwrap(), format!("run {run}"))
    })
    .await;
    server.post(branch, "404").await.assert_first(404, "run 1");
    server.post(branch, "404").await.assert_replay(404, "run 1");
    server.post(branch, "202").await.assert_first(202, "run 2");
    server.post(branch, "202").await.assert_first(202, "run 3");
    server.post(branch, "200").await.assert_first(200, "run 4");
    server.post(branch, "200").await.assert_problem(409, "idempotency_response_not_kept");
    server.post(branch, "201").await.assert_first(201, "run 5");
    server.post(branch, "201").await.assert_replay(201, "run 5");
}
