//! Get: reads a record and changes nothing.

use idem_core::store::StateView;
use idem_core::{Answer, Format, StoredValue};

use crate::case::{Context, cases};
use crate::values::{DAY, HOUR, MINUTE, bytes, fingerprint};

cases![Store:
    n36_an_absent_key_is_none,
    n37_a_record_in_flight_shows_its_attempt_fence_and_fingerprint,
    n37_a_record_in_flight_shows_what_is_left_of_its_lease [MovableClock],
    n37_a_lease_that_is_over_has_nothing_left,
    n37_an_abandoned_record_shows_that,
    n37_it_shows_how_long_a_record_is_remembered [MovableClock],
    n38_a_completed_record_shows_exactly_its_bytes_and_format,
    n38_a_completed_record_shows_its_age [MovableClock],
    n39_ten_thousand_gets_extend_no_lease [MovableClock],
    n39_ten_thousand_gets_extend_no_retention [MovableClock],
    n40_a_tombstone_is_none,
    n40_an_expired_answer_is_none,
    n40_a_forgotten_undecided_record_is_none,
];

async fn n36_an_absent_key_is_none(cx: Context) {
    assert_eq!(cx.caller().get().await, None);
}

async fn n37_a_record_in_flight_shows_its_attempt_fence_and_fingerprint(cx: Context) {
    cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let second = cx.caller();
    let granted = second.reserved().await;
    let view = cx.caller().get().await.expect("it is in flight");
    assert_eq!((view.attempt, view.fence, view.fingerprint), (2, granted.fence, fingerprint("payload")));
    assert!(matches!(view.state, StateView::InFlight { abandoned: false, .. }), "{view:?}");
}

async fn n37_a_record_in_flight_shows_what_is_left_of_its_lease(cx: Context) {
    let owner = cx.caller().lease(10 * MINUTE);
    owner.reserved().await;
    cx.pass(6 * MINUTE).await;
    match owner.get().await.expect("it is in flight").state {
        StateView::InFlight { lease_left, .. } => {
            assert!(lease_left > 3 * MINUTE && lease_left <= 4 * MINUTE, "{lease_left:?}");
        }
        other @ StateView::Completed { .. } => panic!("{other:?}"),
    }
}

async fn n37_a_lease_that_is_over_has_nothing_left(cx: Context) {
    let owner = cx.caller().lease(cx.span());
    owner.reserved().await;
    cx.pass(cx.span()).await;
    let view = owner.get().await.expect("it is undecided");
    assert!(matches!(view.state, StateView::InFlight { lease_left, .. } if lease_left.is_zero()), "{view:?}");
    assert!(view.can_be_taken_over());
}

async fn n37_an_abandoned_record_shows_that(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    assert!(!owner.get().await.expect("it is in flight").can_be_taken_over());
    owner.abandoned().await;
    let view = owner.get().await.expect("it is undecided");
    assert!(matches!(view.state, StateView::InFlight { abandoned: true, .. }), "{view:?}");
}

async fn n37_it_shows_how_long_a_record_is_remembered(cx: Context) {
    let owner = cx.caller().lease(HOUR).record_ttl(DAY);
    owner.reserved().await;
    cx.pass(2 * HOUR).await;
    let expires_in = owner.get().await.expect("it is undecided").expires_in;
    assert!(expires_in > 22 * HOUR && expires_in <= 23 * HOUR, "{expires_in:?} after its lease and a day");
    owner.completed_for(HOUR, bytes("an answer")).await;
    let expires_in = owner.get().await.expect("it was completed").expires_in;
    assert!(expires_in > HOUR / 2 && expires_in <= HOUR, "{expires_in:?} after a retention of an hour");
}

async fn n38_a_completed_record_shows_exactly_its_bytes_and_format(cx: Context) {
    let answer =
        Answer::from(StoredValue { format: Format { codec: 9, schema: u32::MAX }, body: "{}".into() });
    let owner = cx.caller();
    let granted = owner.reserved().await;
    owner.completed_for(DAY, answer.clone()).await;
    let snapshot = cx.caller().snapshot().await.expect("it was completed");
    assert!(snapshot.answer == Some(answer), "{snapshot:?}");
    assert_eq!(
        (snapshot.attempt, snapshot.fence, snapshot.fingerprint),
        (1, granted.fence, fingerprint("payload"))
    );
}

async fn n38_a_completed_record_shows_its_age(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed("an answer").await;
    cx.pass(6 * MINUTE).await;
    match owner.get().await.expect("it was completed").state {
        StateView::Completed { age, .. } => assert!(age >= 6 * MINUTE && age < 7 * MINUTE, "{age:?}"),
        other @ StateView::InFlight { .. } => panic!("{other:?}"),
    }
}

async fn n39_ten_thousand_gets_extend_no_lease(cx: Context) {
    let owner = cx.caller().lease(HOUR);
    owner.reserved().await;
    cx.pass(HOUR / 2).await;
    for _ in 0..10_000 {
        owner.get().await;
    }
    cx.pass(HOUR / 2).await;
    assert_eq!(cx.caller().reserved().await.attempt, 2);
}

async fn n39_ten_thousand_gets_extend_no_retention(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed_for(HOUR, bytes("an answer")).await;
    cx.pass(HOUR / 2).await;
    for _ in 0..10_000 {
        owner.get().await;
    }
    cx.pass(HOUR / 2).await;
    assert_eq!(owner.get().await, None);
}

async fn n40_a_tombstone_is_none(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.released().await;
    assert_eq!(cx.caller().get().await, None);
}

async fn n40_an_expired_answer_is_none(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    owner.completed_for(cx.span(), bytes("an answer")).await;
    cx.pass(cx.span()).await;
    assert_eq!(owner.get().await, None);
}

async fn n40_a_forgotten_undecided_record_is_none(cx: Context) {
    let owner = cx.caller().lease(cx.span()).record_ttl(cx.span());
    owner.reserved().await;
    cx.pass(2 * cx.span()).await;
    assert_eq!(owner.get().await, None);
}
