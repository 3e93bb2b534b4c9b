//! The suite over a store that is not part of this project.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, fs, process};

use async_trait::async_trait;
use idem_conformance::{Ability, Clock, Harness, Instance};
use idem_core::store::{OwnerToken, Record, State, Timestamp};
use idem_core::{Answer, FencingToken, Fingerprint, Key, ReservationStore, StoredValue};
use outside_backend::{DirectoryStore, MAX_ANSWER_BYTES};

struct Directories;

#[async_trait]
impl Harness for Directories {
    async fn fresh(&self) -> Box<dyn Instance> {
        self.open(&self.new_location()).await
    }

    fn clock(&self) -> Clock {
        Clock::Adjustable
    }

    fn max_answer_bytes(&self) -> Option<usize> {
        Some(MAX_ANSWER_BYTES)
    }

    fn lacks(&self, ability: Ability) -> Option<&'static str> {
        match ability {
            Ability::FlushScripts | Ability::KillServer => Some("a directory has no server"),
            _ => None,
        }
    }

    fn new_location(&self) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("idem-outside-{}-{number}", process::id());
        env::temp_dir().join(name).to_str().expect("the name is text").to_owned()
    }

    async fn open(&self, location: &str) -> Box<dyn Instance> {
        let store = Arc::new(DirectoryStore::open(location).expect("a directory can be made"));
        Box::new(Directory { path: location.into(), store })
    }
}

struct Directory {
    path: PathBuf,
    store: Arc<DirectoryStore>,
}

#[async_trait]
impl Instance for Directory {
    fn store(&self) -> Arc<dyn ReservationStore> {
        self.store.clone()
    }

    async fn second_handle(&self) -> Arc<dyn ReservationStore> {
        Arc::new(DirectoryStore::open(&self.path).expect("the directory is there"))
    }

    async fn advance(&self, by: Duration) {
        self.store.advance(by).expect("the clock can be written");
    }

    async fn set_fence(&self, key: &Key, fence: FencingToken) {
        let json = fs::read_to_string(self.store.path(key)).expect("the key has a row");
        let mut row: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
        row["row"]["fence"] = fence.get().into();
        fs::write(self.store.path(key), row.to_string()).expect("it can be written");
    }

    async fn write_later_version(&self, key: &Key) {
        fs::write(self.store.path(key), r#"{"version": 2, "row": "something else"}"#)
            .expect("it can be written");
    }

    async fn write_golden(&self) -> Vec<(Key, Record)> {
        let key = Key::new("golden", "version 1").expect("it is short");
        fs::write(self.store.path(&key), include_str!("golden/v1.json")).expect("it can be written");
        let golden = Record {
            owner: OwnerToken::from_bytes([7; 16]),
            fence: FencingToken::new(1_700_000_000_000_000).expect("it is in range"),
            attempt: 3,
            fingerprint: Fingerprint::from_bytes([9; 32]),
            state: State::Completed {
                answer: Answer::from(StoredValue::bytes("golden")),
                completed_at: Timestamp::from_micros(1_700_000_000_000_000),
            },
            expires_at: Timestamp::from_micros(9_000_000_000_000_000),
        };
        vec![(key, golden)]
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

idem_conformance::main!(Directories);
