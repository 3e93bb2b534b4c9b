//! The events and counters of the engine, under stable names, and what they never show.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use idem_core::{Fingerprint, Key, Operation, StoreErrorKind, StoreFailurePolicy};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Fault, LEASE, TestStore, engine, engine_with};

const SECRET_NAME: &str = "4242-4242-4242-4242";
const SECRET_ANSWER: &str = "the account number is 1187";

/// Writes every span and event down, as text.
#[derive(Clone, Default)]
struct Log {
    text: Arc<Mutex<String>>,
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "idem_core"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = self.text.lock().unwrap();
        write!(text, "span {}", span.metadata().name()).unwrap();
        span.record(&mut Fields(&mut text));
        text.push('\n');
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = self.text.lock().unwrap();
        write!(text, "{} {}", event.metadata().level(), event.metadata().name()).unwrap();
        event.record(&mut Fields(&mut text));
        text.push('\n');
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn secret_key() -> Key {
    Key::new("scope", SECRET_NAME).unwrap()
}

/// Makes everything happen that has an event.
async fn everything() {
    let (key, fingerprint) = (secret_key(), Fingerprint::from_parts(["payload"]));
    let answer = async |_| Ok::<_, String>(SECRET_ANSWER.to_owned());

    let store = TestStore::new();
    drop(engine(&store).reserve(&key, &fingerprint).await.unwrap());
    tokio::time::sleep(LEASE).await;
    let _ = engine(&store).execute(&key, &fingerprint, answer).await.unwrap(); // idem.takeover

    let store = TestStore::new();
    store.fail_next(Operation::Complete, Fault::Refused(StoreErrorKind::TooLarge)); // idem.not_kept
    store.fail_next(Operation::Complete, Fault::ReplyLost); // idem.resend
    let _ = engine(&store).execute(&key, &fingerprint, answer).await.unwrap();

    let store = TestStore::new();
    store.fail_all(Operation::Complete, Fault::Refused(StoreErrorKind::Unavailable));
    let _ = engine(&store).execute(&key, &fingerprint, answer).await.unwrap(); // idem.unrecorded

    let store = TestStore::new();
    store.fail_all(Operation::Reserve, Fault::Refused(StoreErrorKind::Unavailable));
    let open = engine_with(&store, |settings| settings.store_failure(StoreFailurePolicy::FailOpen));
    let _ = open.execute(&key, &fingerprint, answer).await.unwrap(); // idem.unprotected

    let store = TestStore::new();
    store.fail_next(Operation::Renew, Fault::Refused(StoreErrorKind::Unavailable)); // idem.renewal_failed
    store.fail_all(Operation::Abandon, Fault::Refused(StoreErrorKind::Unavailable)); // idem.unsettled
    let engine = engine(&store);
    let held = engine.reserve(&key, &fingerprint).await.unwrap();
    tokio::time::sleep(LEASE * 20).await; // idem.heartbeat_ended
    drop(held);
    tokio::time::sleep(LEASE * 2).await;

    let store = TestStore::new();
    let thief = store.clone();
    let robbed = async |_| {
        thief.steal(&key);
        Ok::<_, String>(SECRET_ANSWER.to_owned())
    };
    let _ = crate::support::engine(&store).execute(&key, &fingerprint, robbed).await.unwrap(); // idem.lease_lost
}

#[tokio::test(start_paused = true)]
async fn every_documented_event_shows_the_digest_but_no_key_and_no_payload() {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    everything().await;
    drop(guard);
    let text = log.text.lock().unwrap().clone();

    for event in [
        "span idem.execute",
        "WARN idem.takeover",
        "WARN idem.unprotected",
        "WARN idem.lease_lost",
        "WARN idem.renewal_failed",
        "WARN idem.heartbeat_ended",
        "ERROR idem.unrecorded",
        "WARN idem.not_kept",
        "WARN idem.unsettled",
        "DEBUG idem.resend",
    ] {
        assert!(text.contains(event), "{event} is missing in:\n{text}");
    }
    assert!(text.contains(&secret_key().digest().to_string()));
    assert!(!text.contains(SECRET_NAME) && !text.contains(SECRET_ANSWER), "{text}");
    assert!(!text.to_lowercase().contains("ownertoken"), "{text}");
}

#[cfg(feature = "metrics")]
mod counters {
    use std::collections::BTreeMap;

    use idem_core::Outcome;
    use metrics::{
        Counter, CounterFn, Gauge, Histogram, Key as MetricKey, KeyName, Metadata, Recorder, SharedString,
        Unit,
    };

    use super::*;
    use crate::support::{fingerprint, key};

    type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

    #[derive(Default)]
    struct Counting {
        counts: Counts,
    }

    struct Count {
        name: String,
        counts: Counts,
    }

    impl CounterFn for Count {
        fn increment(&self, value: u64) {
            *self.counts.lock().unwrap().entry(self.name.clone()).or_default() += value;
        }

        fn absolute(&self, _: u64) {}
    }

    impl Recorder for Counting {
        fn register_counter(&self, key: &MetricKey, _: &Metadata<'_>) -> Counter {
            let labels = key.labels().map(|label| format!("{}={}", label.key(), label.value()));
            let name = std::iter::once(key.name().to_owned()).chain(labels).collect::<Vec<_>>().join(" ");
            Counter::from_arc(Arc::new(Count { name, counts: Arc::clone(&self.counts) }))
        }

        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_gauge(&self, _: &MetricKey, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &MetricKey, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn outcomes_takeovers_and_failed_renewals_are_counted() {
        let recorder = Counting::default();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                everything().await;
                let engine = engine(&TestStore::new());
                for _ in 0..3 {
                    let ok = engine.execute(&key(), &fingerprint(), async |_| Ok::<_, String>(1_u8)).await;
                    assert!(matches!(ok.unwrap(), Outcome::Executed(1) | Outcome::Replayed(1)));
                }
                let other = Fingerprint::from_parts(["another payload"]);
                let _ = engine.execute(&key(), &other, async |_| Ok::<_, String>(1_u8)).await.unwrap();
            });
        });
        let counts = recorder.counts.lock().unwrap().clone();
        let count = |name: &str| counts.get(name).copied().unwrap_or_default();
        assert_eq!(count("idem_outcomes_total outcome=executed"), 3);
        assert_eq!(count("idem_outcomes_total outcome=replayed"), 2);
        assert_eq!(count("idem_outcomes_total outcome=fingerprint_mismatch"), 1);
        assert_eq!(count("idem_outcomes_total outcome=unrecorded"), 1);
        assert_eq!(count("idem_outcomes_total outcome=unprotected"), 1);
        assert_eq!(count("idem_outcomes_total outcome=lease_lost"), 1);
        assert_eq!(count("idem_takeovers_total"), 1);
        assert_eq!(count("idem_renewal_failures_total"), 1);
    }
}
