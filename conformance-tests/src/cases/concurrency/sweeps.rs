//! Sweeps and script flushes while other callers are busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use idem_core::store::ReserveOutcome;
use idem_core::{CompleteOutcome, ReservationStore};

use crate::case::{Context, cases};
use crate::values::{bytes, key};

cases![Threads:
    n63_a_sweep_against_reserves_of_expired_keys_loses_no_reservation,
    n63_a_sweep_under_load_loses_nothing,
    n82_flushed_scripts_under_load_lose_nothing [Has(FlushScripts)],
];

/// How many keys each caller works on.
const KEYS: usize = 64;

async fn n63_a_sweep_against_reserves_of_expired_keys_loses_no_reservation(cx: Context) {
    let keys: Vec<_> = (0..2 * KEYS).map(|number| key("swept", format!("{number}"))).collect();
    for key in &keys {
        let owner = cx.caller_of(key);
        owner.reserved().await;
        owner.completed_for(cx.span(), bytes("an old answer")).await;
    }
    cx.pass(cx.span()).await;
    let (busy, sweeping) = (Arc::new(AtomicUsize::new(6)), Arc::new(AtomicBool::new(false)));
    let sweeps_and_reserves = cx.race(8, |index, store| {
        let callers: Vec<_> = keys.iter().map(|key| cx.caller_of(key).through(store.clone())).collect();
        let (busy, sweeping) = (Arc::clone(&busy), Arc::clone(&sweeping));
        async move {
            if index >= 6 {
                sweeping.store(true, Ordering::SeqCst);
                sweep_while(&*store, &busy).await;
                return Vec::new();
            }
            while !sweeping.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            let mut winners = Vec::new();
            for caller in callers {
                if let ReserveOutcome::Reserved { attempt, .. } = caller.reserve().await {
                    assert_eq!(attempt, 1);
                    winners.push(caller);
                }
                // Lets the sweepers run, so that they race.
                tokio::task::yield_now().await;
            }
            busy.fetch_sub(1, Ordering::SeqCst);
            winners
        }
    });
    let winners: Vec<_> = sweeps_and_reserves.await.into_iter().flatten().collect();
    assert_eq!(winners.len(), keys.len(), "each key has one new owner");
    for winner in winners {
        assert_eq!(winner.complete("a new answer").await, CompleteOutcome::Completed);
    }
}

async fn n63_a_sweep_under_load_loses_nothing(cx: Context) {
    let owners: Vec<_> =
        (0..6 * KEYS).map(|number| cx.caller_of(&key("load", format!("{number}")))).collect();
    let busy = Arc::new(AtomicUsize::new(6));
    cx.race(8, |index, store| {
        let (owners, busy) = (owners.clone(), Arc::clone(&busy));
        async move {
            if let Some(owners) = owners.chunks(KEYS).nth(index) {
                for owner in owners {
                    let owner = owner.clone().through(store.clone());
                    owner.reserved().await;
                    assert_eq!(owner.complete("an answer").await, CompleteOutcome::Completed);
                }
                busy.fetch_sub(1, Ordering::SeqCst);
                return;
            }
            sweep_while(&*store, &busy).await;
        }
    })
    .await;
    for owner in owners {
        assert!(owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes("an answer"))));
    }
}

async fn n82_flushed_scripts_under_load_lose_nothing(cx: Context) {
    let owners: Vec<_> =
        (0..4 * KEYS).map(|number| cx.caller_of(&key("load", format!("{number}")))).collect();
    cx.race(5, |index, store| {
        let (cx, owners) = (cx.clone(), owners.clone());
        async move {
            let Some(owners) = owners.chunks(KEYS).nth(index) else {
                for _ in 0..KEYS {
                    cx.instance().flush_scripts().await;
                    tokio::task::yield_now().await;
                }
                return;
            };
            for owner in owners {
                let owner = owner.clone().through(store.clone());
                owner.reserved().await;
                owner.completed("an answer").await;
            }
        }
    })
    .await;
    for owner in owners {
        assert!(owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes("an answer"))));
    }
}

/// Sweeps while others are busy, and once more after the last of them has finished.
async fn sweep_while(store: &dyn ReservationStore, busy: &AtomicUsize) {
    let mut is_last = false;
    while !is_last {
        is_last = busy.load(Ordering::SeqCst) == 0;
        store.sweep(usize::MAX).await.expect("a sweep works");
        tokio::task::yield_now().await;
    }
}
