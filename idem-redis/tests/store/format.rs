//! The bytes of the records that this release writes.

use std::time::Duration;

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest, Span, State};
use idem_core::{AbandonOutcome, CompleteOutcome, Fingerprint, Key, ReservationStore};
use test_servers::redis::Kind;

use super::support::{ClockedServer, name};
use super::{HOUR, LEASE, golden, key, reserved, span};

/// Later releases must read the bytes that this one writes.
#[tokio::test]
async fn what_is_written_is_what_the_golden_records_are() {
    let server = ClockedServer::start(Kind::Redis);
    let store = server.store().await;
    let connection = server.connection().await;
    let golden = |name: &str| {
        let golden = golden::records().into_iter().find(|golden| golden.name == name);
        golden.unwrap()
    };
    // All bytes but the fence's seven, and but the end of an abandoned lease.
    let same = async |key: &Key, golden: &golden::Golden, fence: usize, end: usize| {
        let mut connection = connection.clone();
        let written: Vec<u8> = redis::cmd("GET").arg(name(key)).query_async(&mut connection).await.unwrap();
        assert_eq!(written.len(), golden.bytes.len(), "{}", golden.name);
        assert_eq!(written[..fence], golden.bytes[..fence], "{}", golden.name);
        assert_eq!(written[fence + 7..end], golden.bytes[fence + 7..end], "{}", golden.name);
    };
    let in_flight = golden("in flight");
    let (owner, fingerprint) = (in_flight.record.owner, in_flight.record.fingerprint);
    let ask = ReserveRequest::new(owner, fingerprint, span(LEASE)).record_ttl(span(24 * HOUR));

    let running = key("running");
    let outcome = store.reserve(&running, ask.clone()).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Reserved { .. }));
    same(&running, &in_flight, 63, 70).await;

    for (name, retention) in [("empty", Duration::from_millis(90_001)), ("not kept", Duration::from_secs(45))]
    {
        let (key, golden) = (key(name), golden(name));
        let outcome = store.reserve(&key, ask.clone()).await.unwrap();
        assert!(matches!(outcome, ReserveOutcome::Reserved { .. }));
        let State::Completed { answer, .. } = golden.record.state.clone() else { panic!() };
        let outcome = store.complete(&key, owner, Completion::new(answer, span(retention))).await.unwrap();
        assert_eq!(outcome, CompleteOutcome::Completed);
        same(&key, &golden, 49, golden.bytes.len()).await;
    }

    // Attempts above 127 take two bytes in a completed record.
    let many = key("attempted often");
    for _ in 1..300 {
        let owner = OwnerToken::random();
        let outcome =
            store.reserve(&many, ReserveRequest::new(owner, fingerprint, span(LEASE))).await.unwrap();
        assert!(matches!(outcome, ReserveOutcome::Reserved { .. }));
        assert_eq!(store.abandon(&many, owner).await.unwrap(), AbandonOutcome::Abandoned);
    }
    let outcome = store.reserve(&many, ask.clone()).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Reserved { attempt: 300, .. }), "{outcome:?}");
    let often = golden("completed");
    let State::Completed { answer, .. } = often.record.state.clone() else { panic!() };
    let outcome = store.complete(&many, owner, Completion::new(answer, span(24 * HOUR))).await.unwrap();
    assert_eq!(outcome, CompleteOutcome::Completed);
    same(&many, &often, 49, often.bytes.len()).await;

    let abandoned = key("abandoned");
    reserved(&store, &abandoned).await;
    server.clock().forward(LEASE + Duration::from_millis(2));
    let request =
        ReserveRequest::new(owner, Fingerprint::from_parts(["payload"]), span(Duration::from_millis(1)))
            .record_ttl(span(Span::MAX.as_duration()));
    let outcome = store.reserve(&abandoned, request).await.unwrap();
    assert!(matches!(outcome, ReserveOutcome::Reserved { attempt: 2, .. }), "{outcome:?}");
    assert_eq!(store.abandon(&abandoned, owner).await.unwrap(), AbandonOutcome::Abandoned);
    let mut expected = golden("abandoned");
    expected.bytes[17..49].copy_from_slice(Fingerprint::from_parts(["payload"]).as_bytes());
    same(&abandoned, &expected, 63, 70).await;
}
