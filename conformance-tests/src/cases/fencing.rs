//! Fencing: a number that grows with every owner, so that a resource can refuse late writes.

use idem_core::{Effect, FencingToken};

use crate::case::{Context, cases};
use crate::values::{HOUR, bytes};

cases![Store:
    n50_a_hundred_takeovers_have_strictly_increasing_fences,
    n51_fences_increase_across_releases,
    n51_fences_increase_across_lives,
    n51_fences_increase_across_swept_lives,
    n51_a_renewal_and_a_completion_keep_the_fence,
    n52_a_guarded_resource_refuses_the_zombies_write,
    n53_a_fence_near_2_to_the_53_is_shown_exactly [Has(SetFence)],
    n53_the_owner_after_it_has_exactly_the_next [Has(SetFence)],
    n53_beyond_the_last_fence_is_an_error_and_never_a_lower_fence [Has(SetFence)],
];

async fn n50_a_hundred_takeovers_have_strictly_increasing_fences(cx: Context) {
    let mut last = None;
    for attempt in 1..=100 {
        let owner = cx.caller();
        let granted = owner.reserved().await;
        assert_eq!(granted.attempt, attempt);
        assert!(Some(granted.fence) > last, "{} after {last:?}", granted.fence);
        last = Some(granted.fence);
        owner.abandoned().await;
    }
}

async fn n51_fences_increase_across_releases(cx: Context) {
    let mut last = None;
    for _ in 0..100 {
        let owner = cx.caller();
        let granted = owner.reserved().await;
        assert!(Some(granted.fence) > last, "{} after {last:?}", granted.fence);
        last = Some(granted.fence);
        owner.released().await;
    }
}

async fn n51_fences_increase_across_lives(cx: Context) {
    let owner = cx.caller();
    let first = owner.reserved().await;
    owner.completed_for(cx.span(), bytes("an answer")).await;
    cx.pass(cx.span()).await;
    let next = cx.caller().reserved().await;
    assert!(next.fence > first.fence, "{} after {}", next.fence, first.fence);
}

/// Nothing of the record is left then, so the fence comes from the clock alone.
async fn n51_fences_increase_across_swept_lives(cx: Context) {
    let owner = cx.caller();
    let first = owner.reserved().await;
    owner.completed_for(cx.span(), bytes("an answer")).await;
    cx.pass(cx.span()).await;
    cx.store().sweep(usize::MAX).await.expect("a sweep works");
    let next = cx.caller().reserved().await;
    assert!(next.fence > first.fence, "{} after {}", next.fence, first.fence);
}

async fn n51_a_renewal_and_a_completion_keep_the_fence(cx: Context) {
    let owner = cx.caller();
    let granted = owner.reserved().await;
    owner.renewed(2 * HOUR).await;
    assert_eq!(owner.snapshot().await.map(|snapshot| snapshot.fence), Some(granted.fence));
    owner.completed("an answer").await;
    assert_eq!(owner.snapshot().await.map(|snapshot| snapshot.fence), Some(granted.fence));
}

async fn n52_a_guarded_resource_refuses_the_zombies_write(cx: Context) {
    let zombie = cx.caller().lease(cx.span()).reserved().await;
    cx.pass(cx.span()).await;
    let owner = cx.caller().reserved().await;

    let mut resource = Guarded::default();
    assert!(resource.write(owner.fence));
    assert!(!resource.write(zombie.fence), "the zombie's write came later and was accepted");
    assert!(resource.write(owner.fence));
}

async fn n53_a_fence_near_2_to_the_53_is_shown_exactly(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    // Both survive only as integers: a 64-bit float keeps them, a decimal print of one may not.
    for fence in [FencingToken::MAX, near_the_last(1)] {
        cx.instance().set_fence(owner.key(), fence).await;
        assert_eq!(owner.snapshot().await.map(|snapshot| snapshot.fence), Some(fence));
        assert_eq!(owner.reserved().await.fence, fence);
    }
}

async fn n53_the_owner_after_it_has_exactly_the_next(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    cx.instance().set_fence(owner.key(), near_the_last(3)).await;
    owner.abandoned().await;
    assert_eq!(cx.caller().reserved().await.fence, near_the_last(2));
}

async fn n53_beyond_the_last_fence_is_an_error_and_never_a_lower_fence(cx: Context) {
    let owner = cx.caller();
    owner.reserved().await;
    cx.instance().set_fence(owner.key(), FencingToken::MAX).await;
    owner.abandoned().await;
    let next = cx.caller();
    match next.try_reserve().await {
        Err(error) => assert_eq!(error.effect, Effect::NotApplied),
        Ok(outcome) => panic!("{outcome:?}"),
    }
    assert_eq!(owner.snapshot().await.map(|snapshot| snapshot.fence), Some(FencingToken::MAX));
}

/// The token this much below the last.
fn near_the_last(below: u64) -> FencingToken {
    FencingToken::new(FencingToken::MAX.get() - below).expect("it is far above zero")
}

/// A resource that a handler changes. It remembers the greatest fence that it has seen.
#[derive(Default)]
struct Guarded {
    greatest: Option<FencingToken>,
}

impl Guarded {
    /// Whether the write is accepted.
    fn write(&mut self, fence: FencingToken) -> bool {
        let accepted = Some(fence) >= self.greatest;
        self.greatest = self.greatest.max(Some(fence));
        accepted
    }
}
