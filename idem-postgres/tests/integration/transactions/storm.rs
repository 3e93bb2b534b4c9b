//! Many callers with short leases, while sessions are ended and connections cut at random.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use idem_core::{Admission, Engine, Key, StoredValue};
use idem_postgres::{PostgresOptions, ReservationExt};

use crate::support::{Shop, payload};

const KEYS: usize = 20;
const CALLERS: usize = 6;

/// Different in each run. The assertions hold for every value.
fn random(below: u64) -> u64 {
    RandomState::new().hash_one(()) % below
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_effect_happens_once_through_cut_connections_and_expired_leases() {
    let options = PostgresOptions::new().idle_in_transaction_timeout(Duration::from_secs(2));
    let (proxy, shop) = Shop::proxied(options).await;
    let shop = Arc::new(shop);
    let engine = Engine::builder(shop.store.clone()).lease(Duration::from_millis(200)).build().unwrap();

    let is_over = Arc::new(AtomicBool::new(false));
    let (operated, over) = (Arc::clone(&shop), Arc::clone(&is_over));
    let operator = tokio::spawn(async move {
        let client = operated.server.client().await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'idem' AND random() < 0.3";
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(20 + random(60))).await;
            match random(4) {
                0 => proxy.cut(),
                1 => proxy.cut_when_request_contains(b"COMMIT"),
                2 => proxy.cut_before_next_reply(),
                _ => client.batch_execute(end).await.unwrap(),
            }
        }
    });

    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (shop, engine) = (Arc::clone(&shop), engine.clone());
        callers.spawn(async move {
            let mut answers = Vec::new();
            for number in 0..KEYS {
                let key = Key::new("storm", number.to_string()).unwrap();
                loop {
                    match engine.reserve(&key, &payload()).await {
                        Ok(Admission::Granted(reservation)) => {
                            // Before the transaction and in it, sometimes longer than the lease.
                            let naps = [random(12), random(12)]
                                .map(|nap| Duration::from_millis(nap * nap * nap / 4));
                            tokio::time::sleep(naps[0]).await;
                            let Ok(transaction) = reservation.begin_transaction(&shop.store).await else {
                                continue;
                            };
                            let name = number.to_string();
                            let paid =
                                transaction.execute("INSERT INTO payment (key) VALUES ($1)", &[&name]).await;
                            tokio::time::sleep(naps[1]).await;
                            if random(5) == 0 || (paid.is_err() && random(2) == 0) {
                                drop(transaction);
                                continue;
                            }
                            let answer = random(u64::MAX).to_string();
                            let _ = transaction.complete(StoredValue::bytes(answer)).await;
                        }
                        Ok(Admission::Replayed(value)) => break answers.push(value.body),
                        _ => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            }
            answers
        });
    }
    let answers = callers.join_all().await;
    is_over.store(true, Ordering::Relaxed);
    operator.await.unwrap();
    // Every caller got the same answers, and every key has one payment.
    assert!(answers.iter().all(|theirs| *theirs == answers[0]));
    let client = shop.server.client().await;
    let twice = "SELECT count(*), count(DISTINCT key) FROM payment";
    let row = client.query_one(twice, &[]).await.unwrap();
    let expected = i64::try_from(KEYS).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (expected, expected));
}
