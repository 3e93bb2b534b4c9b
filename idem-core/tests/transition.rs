//! The state machine, operation by operation.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

use std::time::Duration;

use idem_core::store::transition::{self, Change};
use idem_core::store::{
    Completion, OwnerToken, Record, ReserveOutcome, ReserveRequest, Span, State, StateView, Timestamp,
};
use idem_core::{
    AbandonOutcome, Answer, CompleteOutcome, ExpiredLeasePolicy, FencingToken, Fingerprint, ReleaseOutcome,
    RenewOutcome, StoredValue,
};

const LEASE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(1000);
const RETENTION: Duration = Duration::from_secs(5000);
const SECOND: Duration = Duration::from_secs(1);
const MIN_TOMBSTONE: Duration = transition::MIN_TOMBSTONE.as_duration();

fn span(duration: Duration) -> Span {
    Span::new(duration).unwrap()
}

fn alice() -> OwnerToken {
    OwnerToken::from_bytes([1; 16])
}

fn bob() -> OwnerToken {
    OwnerToken::from_bytes([2; 16])
}

fn payload() -> Fingerprint {
    Fingerprint::from_parts(["payload"])
}

/// The instant this long after the first reservation of each test.
fn at(after: Duration) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + u64::try_from(after.as_micros()).unwrap())
}

fn ask(owner: OwnerToken) -> ReserveRequest {
    ask_for(owner, LEASE)
}

fn ask_for(owner: OwnerToken, lease: Duration) -> ReserveRequest {
    ReserveRequest::new(owner, payload(), span(lease)).record_ttl(span(TTL))
}

fn reserve(found: Option<&Record>, request: &ReserveRequest, now: Timestamp) -> (ReserveOutcome, Change) {
    transition::reserve(found, request, now).unwrap()
}

fn release(found: Option<&Record>, owner: OwnerToken, now: Timestamp) -> (ReleaseOutcome, Change) {
    transition::release(found, owner, now).unwrap()
}

fn answer(body: &'static str) -> Completion {
    Completion::new(StoredValue::bytes(body), span(RETENTION))
}

/// Alice's record, reserved at `at(0)`.
fn in_flight() -> Record {
    reserve(None, &ask(alice()), at(Duration::ZERO)).1.unwrap()
}

fn abandoned() -> Record {
    transition::abandon(Some(&in_flight()), alice(), at(SECOND)).1.unwrap()
}

fn completed() -> Record {
    transition::complete(Some(&in_flight()), alice(), answer("done"), at(SECOND)).1.unwrap()
}

fn released() -> Record {
    release(Some(&in_flight()), alice(), at(SECOND)).1.unwrap()
}

/// Bob's record, taken over from Alice at the end of her lease.
fn taken_over() -> Record {
    reserve(Some(&in_flight()), &ask(bob()), at(LEASE)).1.unwrap()
}

fn attempt_and_fence(outcome: &ReserveOutcome) -> (u32, FencingToken) {
    match outcome {
        ReserveOutcome::Reserved { attempt, fence, .. } => (*attempt, *fence),
        other => panic!("{other:?}"),
    }
}

mod reserving {
    use super::*;

    #[test]
    fn an_absent_key_is_reserved_as_attempt_1_with_the_clocks_fence() {
        let now = at(Duration::ZERO);
        let (outcome, record) = reserve(None, &ask(alice()), now);
        let fence = FencingToken::new(now.as_micros()).unwrap();
        assert_eq!(outcome, ReserveOutcome::Reserved { attempt: 1, fence, lease_left: LEASE });
        assert_eq!(
            record.unwrap(),
            Record {
                owner: alice(),
                fence,
                attempt: 1,
                fingerprint: payload(),
                state: State::InFlight {
                    lease_until: at(LEASE),
                    lease: span(LEASE),
                    record_ttl: span(TTL),
                    abandoned: false
                },
                expires_at: at(LEASE + TTL),
            }
        );
    }

    #[test]
    fn an_expired_record_is_absent_at_once_but_its_fence_counts() {
        for record in [in_flight(), abandoned(), completed(), released()] {
            let last = Timestamp::from_micros(record.expires_at.as_micros() - 1);
            let before = reserve(Some(&record), &ask(bob()), last).0;
            assert!(
                !matches!(before, ReserveOutcome::Reserved { attempt: 1, .. })
                    || matches!(record.state, State::Released)
            );
            let (outcome, new) = reserve(Some(&record), &ask(bob()), record.expires_at);
            let (attempt, fence) = attempt_and_fence(&outcome);
            assert_eq!(attempt, 1);
            assert!(fence > record.fence);
            assert_eq!(new.unwrap().owner, bob());
        }
        // Also when the clock is behind the old fence.
        let mut record = in_flight();
        record.fence = FencingToken::new(record.expires_at.as_micros() + 1000).unwrap();
        let (_, fence) = attempt_and_fence(&reserve(Some(&record), &ask(bob()), record.expires_at).0);
        assert_eq!(fence.get(), record.fence.get() + 1);
    }

    #[test]
    fn a_key_released_by_another_keeps_its_attempt_and_gets_a_greater_fence() {
        let (outcome, record) = reserve(Some(&released()), &ask(bob()), at(SECOND));
        let (attempt, fence) = attempt_and_fence(&outcome);
        assert_eq!(attempt, 1);
        assert!(fence > in_flight().fence);
        assert_eq!(record.unwrap().owner, bob());

        let second = release(Some(&taken_over()), bob(), at(LEASE)).1.unwrap();
        let (outcome, _) = reserve(Some(&second), &ask(alice()), at(LEASE));
        assert_eq!(attempt_and_fence(&outcome).0, 2);
    }

    #[test]
    fn a_released_key_takes_any_fingerprint() {
        let other = ReserveRequest::new(bob(), Fingerprint::from_parts(["other"]), span(LEASE));
        assert!(matches!(reserve(Some(&released()), &other, at(SECOND)).0, ReserveOutcome::Reserved { .. }));
    }

    #[test]
    fn a_token_that_released_is_stale() {
        assert_eq!(reserve(Some(&released()), &ask(alice()), at(SECOND)), (ReserveOutcome::Stale, None));
    }

    #[test]
    fn another_fingerprint_is_a_mismatch_in_flight_and_completed() {
        for owner in [alice(), bob()] {
            let other = ReserveRequest::new(owner, Fingerprint::from_parts(["other"]), span(LEASE));
            for (record, now) in [
                (in_flight(), at(SECOND)),
                (in_flight(), at(LEASE)),
                (abandoned(), at(SECOND)),
                (completed(), at(SECOND)),
            ] {
                let mismatch = (ReserveOutcome::FingerprintMismatch, None);
                assert_eq!(reserve(Some(&record), &other, now), mismatch);
            }
        }
    }

    #[test]
    fn a_resent_reservation_has_the_same_attempt_and_fence_and_no_shorter_lease() {
        let first = in_flight();
        let (outcome, record) = reserve(Some(&first), &ask(alice()), at(SECOND));
        let fence = first.fence;
        assert_eq!(outcome, ReserveOutcome::Reserved { attempt: 1, fence, lease_left: LEASE });
        assert_eq!(record.unwrap().expires_at, at(SECOND + LEASE + TTL));

        let shorter = ask_for(alice(), SECOND);
        let (outcome, record) = reserve(Some(&first), &shorter, at(SECOND));
        assert_eq!(outcome, ReserveOutcome::Reserved { attempt: 1, fence, lease_left: LEASE - SECOND });
        assert_eq!(record.unwrap(), first);
    }

    #[test]
    fn a_reservation_resent_after_the_lease_is_still_the_owners() {
        let (outcome, _) = reserve(Some(&in_flight()), &ask(alice()), at(LEASE + SECOND));
        let fence = in_flight().fence;
        assert_eq!(outcome, ReserveOutcome::Reserved { attempt: 1, fence, lease_left: LEASE });
    }

    #[test]
    fn a_reservation_resent_after_its_own_abandon_is_stale() {
        assert_eq!(reserve(Some(&abandoned()), &ask(alice()), at(SECOND)), (ReserveOutcome::Stale, None));
    }

    #[test]
    fn a_live_lease_of_another_is_in_flight_to_its_last_microsecond() {
        let eager = ask_for(bob(), SECOND);
        let last = Timestamp::from_micros(at(LEASE).as_micros() - 1);
        let lease_left = Duration::from_micros(1);
        let in_flight_until = (ReserveOutcome::InFlight { attempt: 1, lease_left }, None);
        assert_eq!(reserve(Some(&in_flight()), &eager, last), in_flight_until);
    }

    #[test]
    fn an_expired_or_abandoned_lease_is_taken_over_as_the_next_attempt() {
        for (record, now) in [(in_flight(), at(LEASE)), (abandoned(), at(SECOND))] {
            let (outcome, new) = reserve(Some(&record), &ask(bob()), now);
            let (attempt, fence) = attempt_and_fence(&outcome);
            assert_eq!(attempt, 2);
            assert!(fence > record.fence);
            let new = new.unwrap();
            assert_eq!((new.owner, new.fence, new.attempt), (bob(), fence, 2));
            assert!(matches!(new.state, State::InFlight { abandoned: false, .. }));
        }
    }

    #[test]
    fn an_expired_or_abandoned_lease_is_not_taken_over_under_refuse() {
        let refuse = ask(bob()).on_expired_lease(ExpiredLeasePolicy::Refuse);
        for (record, now) in [(in_flight(), at(LEASE)), (abandoned(), at(SECOND))] {
            let expired = (ReserveOutcome::LeaseExpired { attempt: 1 }, None);
            assert_eq!(reserve(Some(&record), &refuse, now), expired);
        }
    }

    #[test]
    fn a_completed_key_is_stale_to_its_owner_and_replayed_to_others() {
        assert_eq!(reserve(Some(&completed()), &ask(alice()), at(SECOND)), (ReserveOutcome::Stale, None));
        let answer = Answer::Value(StoredValue::bytes("done"));
        let replay = (ReserveOutcome::Completed { answer, attempt: 1 }, None);
        assert_eq!(reserve(Some(&completed()), &ask(bob()), at(SECOND)), replay);
    }

    #[test]
    fn a_fence_above_the_maximum_is_an_error_and_nothing_changes() {
        let mut record = in_flight();
        record.fence = FencingToken::MAX;
        let error = transition::reserve(Some(&record), &ask(bob()), at(LEASE)).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("used up"), "{error}");
        assert!(transition::release(Some(&record), bob(), record.expires_at).is_err());
    }

    #[test]
    fn attempt_numbers_do_not_wrap() {
        let mut record = in_flight();
        record.attempt = u32::MAX;
        assert_eq!(attempt_and_fence(&reserve(Some(&record), &ask(bob()), at(LEASE)).0).0, u32::MAX);
    }
}

mod completing {
    use super::*;

    fn complete(found: Option<&Record>, owner: OwnerToken, now: Timestamp) -> (CompleteOutcome, Change) {
        transition::complete(found, owner, answer("done"), now)
    }

    #[test]
    fn the_owner_completes_during_and_after_its_lease_and_abandoned() {
        for (record, now) in
            [(in_flight(), at(SECOND)), (in_flight(), at(LEASE * 2)), (abandoned(), at(SECOND))]
        {
            let (outcome, new) = complete(Some(&record), alice(), now);
            assert_eq!(outcome, CompleteOutcome::Completed);
            let state = State::Completed { answer: answer("done").answer, completed_at: now };
            assert_eq!(
                new.unwrap(),
                Record { state, expires_at: now.saturating_add(span(RETENTION)), ..record }
            );
        }
    }

    #[test]
    fn the_same_answer_again_is_already_completed_and_another_a_conflict() {
        let known = (CompleteOutcome::AlreadyCompleted, None);
        assert_eq!(complete(Some(&completed()), alice(), at(SECOND)), known);
        let conflict = (CompleteOutcome::AnswerConflict, None);
        let now = at(SECOND);
        assert_eq!(transition::complete(Some(&completed()), alice(), answer("other"), now), conflict);
        let not_kept = Completion::new(Answer::NotKept, span(RETENTION));
        assert_eq!(transition::complete(Some(&completed()), alice(), not_kept, now), conflict);
    }

    #[test]
    fn every_other_token_gets_lost_and_nothing_is_created() {
        let lost = (CompleteOutcome::Lost, None);
        assert_eq!(complete(None, alice(), at(SECOND)), lost);
        assert_eq!(complete(Some(&in_flight()), bob(), at(SECOND)), lost);
        assert_eq!(complete(Some(&completed()), bob(), at(SECOND)), lost);
        assert_eq!(complete(Some(&released()), alice(), at(SECOND)), lost);
        assert_eq!(complete(Some(&taken_over()), alice(), at(LEASE)), lost);
        assert_eq!(complete(Some(&in_flight()), alice(), in_flight().expires_at), lost);
    }
}

mod releasing {
    use super::*;

    #[test]
    fn a_release_leaves_a_tombstone_with_the_fence_and_no_fingerprint() {
        let (outcome, tombstone) = release(Some(&in_flight()), alice(), at(SECOND));
        assert_eq!(outcome, ReleaseOutcome::Released);
        assert_eq!(
            tombstone.unwrap(),
            Record {
                state: State::Released,
                fingerprint: Record::NO_FINGERPRINT,
                expires_at: at(SECOND + MIN_TOMBSTONE),
                ..in_flight()
            }
        );
        // After the lease, and abandoned, it is still the owner's.
        assert_eq!(release(Some(&in_flight()), alice(), at(LEASE * 2)).0, ReleaseOutcome::Released);
        assert_eq!(release(Some(&abandoned()), alice(), at(SECOND)).0, ReleaseOutcome::Released);
    }

    #[test]
    fn a_tombstone_outlives_every_delayed_reservation() {
        assert_eq!(MIN_TOMBSTONE, Duration::from_secs(300));
        let tombstone = release(Some(&in_flight()), alice(), at(SECOND)).1.unwrap();
        assert_eq!(tombstone.expires_at, at(Duration::from_secs(301)));
    }

    #[test]
    fn a_tombstone_lasts_a_lease_and_after_a_takeover_as_long_as_the_record() {
        let long = ask_for(alice(), MIN_TOMBSTONE * 2);
        let record = reserve(None, &long, at(Duration::ZERO)).1;
        let tombstone = release(record.as_ref(), alice(), at(SECOND)).1.unwrap();
        assert_eq!(tombstone.expires_at, at(SECOND + MIN_TOMBSTONE * 2));

        let tombstone = release(Some(&taken_over()), bob(), at(LEASE)).1.unwrap();
        assert_eq!(tombstone.expires_at, at(LEASE + TTL));
    }

    #[test]
    fn a_second_release_is_already_released() {
        assert_eq!(release(Some(&released()), alice(), at(SECOND)), (ReleaseOutcome::AlreadyReleased, None));
    }

    #[test]
    fn releasing_an_absent_key_makes_a_late_reservation_stale() {
        for found in [None, Some(completed())] {
            let now = found.as_ref().map_or(at(SECOND), |record| record.expires_at);
            let (outcome, tombstone) = release(found.as_ref(), bob(), now);
            assert_eq!(outcome, ReleaseOutcome::AlreadyReleased);
            let tombstone = tombstone.unwrap();
            assert_eq!(tombstone.expires_at, now.saturating_add(transition::MIN_TOMBSTONE));
            assert_eq!(tombstone.attempt, 1);
            assert!(found.is_none_or(|record| tombstone.fence > record.fence));
            assert_eq!(reserve(Some(&tombstone), &ask(bob()), now).0, ReserveOutcome::Stale);
            let other = reserve(Some(&tombstone), &ask(alice()), now).0;
            assert_eq!(attempt_and_fence(&other).0, 1);
        }
    }

    #[test]
    fn the_answer_of_a_completed_key_is_kept() {
        let kept = (ReleaseOutcome::AlreadyCompleted, None);
        assert_eq!(release(Some(&completed()), alice(), at(SECOND)), kept);
    }

    #[test]
    fn every_other_token_gets_lost_and_the_record_does_not_change() {
        for record in [in_flight(), abandoned(), completed(), released()] {
            assert_eq!(release(Some(&record), bob(), at(SECOND)), (ReleaseOutcome::Lost, None));
        }
        assert_eq!(release(Some(&taken_over()), alice(), at(LEASE)), (ReleaseOutcome::Lost, None));
    }
}

mod abandoning {
    use super::*;

    #[test]
    fn an_abandoned_record_is_kept_for_its_ttl_from_now() {
        let (outcome, record) = transition::abandon(Some(&in_flight()), alice(), at(SECOND));
        assert_eq!(outcome, AbandonOutcome::Abandoned);
        let record = record.unwrap();
        let lease_until = at(LEASE);
        let (lease, record_ttl) = (span(LEASE), span(TTL));
        assert_eq!(record.state, State::InFlight { lease_until, lease, record_ttl, abandoned: true });
        assert_eq!(record.expires_at, at(SECOND + TTL));
        assert_eq!((record.owner, record.fence, record.attempt), (alice(), in_flight().fence, 1));
    }

    #[test]
    fn a_second_abandon_is_abandoned_and_nothing_changes() {
        let again = transition::abandon(Some(&abandoned()), alice(), at(LEASE));
        assert_eq!(again, (AbandonOutcome::Abandoned, None));
    }

    #[test]
    fn the_answer_of_a_completed_key_is_kept() {
        let kept = (AbandonOutcome::AlreadyCompleted, None);
        assert_eq!(transition::abandon(Some(&completed()), alice(), at(SECOND)), kept);
    }

    #[test]
    fn every_other_token_gets_lost() {
        let lost = (AbandonOutcome::Lost, None);
        assert_eq!(transition::abandon(None, alice(), at(SECOND)), lost);
        assert_eq!(transition::abandon(Some(&released()), alice(), at(SECOND)), lost);
        assert_eq!(transition::abandon(Some(&taken_over()), alice(), at(LEASE)), lost);
        for record in [in_flight(), abandoned(), completed(), released()] {
            assert_eq!(transition::abandon(Some(&record), bob(), at(SECOND)), lost);
        }
    }
}

mod renewing {
    use super::*;

    #[test]
    fn the_owner_extends_its_lease_also_after_it_ended() {
        for now in [at(SECOND), at(LEASE + SECOND)] {
            let (outcome, record) = transition::renew(Some(&in_flight()), alice(), span(LEASE), now);
            assert_eq!(outcome, RenewOutcome::Renewed { lease_left: LEASE });
            let record = record.unwrap();
            assert_eq!(record.expires_at, now.saturating_add(span(LEASE)).saturating_add(span(TTL)));
            let view = record.view(now).unwrap();
            assert_eq!(view.state, StateView::InFlight { lease_left: LEASE, abandoned: false });
        }
    }

    #[test]
    fn a_lease_is_never_shortened() {
        let (outcome, record) = transition::renew(Some(&in_flight()), alice(), span(SECOND), at(SECOND));
        assert_eq!(outcome, RenewOutcome::Renewed { lease_left: LEASE - SECOND });
        assert_eq!(record.unwrap(), in_flight());
    }

    #[test]
    fn a_record_keeps_the_length_of_the_lease_that_set_its_end() {
        let record = transition::renew(Some(&in_flight()), alice(), span(LEASE * 3), at(SECOND)).1.unwrap();
        let State::InFlight { lease_until, lease, .. } = record.state else { panic!("{record:?}") };
        assert_eq!(lease_until, at(SECOND).saturating_add(lease));
    }

    #[test]
    fn a_completed_key_is_not_renewed() {
        let done = (RenewOutcome::AlreadyCompleted, None);
        assert_eq!(transition::renew(Some(&completed()), alice(), span(LEASE), at(SECOND)), done);
    }

    #[test]
    fn every_other_token_gets_lost_also_after_an_abandon_or_a_release() {
        let lost = (RenewOutcome::Lost, None);
        let renew = |record: Option<&Record>, owner| transition::renew(record, owner, span(LEASE), at(LEASE));
        assert_eq!(renew(None, alice()), lost);
        assert_eq!(renew(Some(&abandoned()), alice()), lost);
        assert_eq!(renew(Some(&released()), alice()), lost);
        assert_eq!(renew(Some(&taken_over()), alice()), lost);
        assert_eq!(renew(Some(&completed()), bob()), lost);
        assert_eq!(renew(Some(&in_flight()), bob()), lost);
    }
}

mod looking {
    use super::*;

    #[test]
    fn a_view_in_flight_shows_the_lease_and_never_the_token() {
        let view = in_flight().view(at(SECOND)).unwrap();
        assert_eq!((view.attempt, view.fence, view.fingerprint), (1, in_flight().fence, payload()));
        assert_eq!(view.state, StateView::InFlight { lease_left: LEASE - SECOND, abandoned: false });
        assert_eq!(view.expires_in, LEASE + TTL - SECOND);
        assert!(!view.can_be_taken_over());
    }

    #[test]
    fn a_lease_that_is_over_or_abandoned_can_be_taken_over() {
        assert!(in_flight().view(at(LEASE)).unwrap().can_be_taken_over());
        assert!(abandoned().view(at(SECOND)).unwrap().can_be_taken_over());
        assert!(!completed().view(at(SECOND)).unwrap().can_be_taken_over());
    }

    #[test]
    fn a_completed_view_shows_the_answer_and_its_age() {
        let view = completed().view(at(SECOND * 3)).unwrap();
        assert_eq!(view.state, StateView::Completed { answer: answer("done").answer, age: SECOND * 2 });
    }

    #[test]
    fn tombstones_and_expired_records_have_no_view() {
        assert_eq!(released().view(at(SECOND)), None);
        assert_eq!(in_flight().view(in_flight().expires_at), None);
    }
}
