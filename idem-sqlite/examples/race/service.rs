//! The service in front of the application: the same handler, behind idem or behind a cache of answers.

use std::error::Error;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use idem_core::{Engine, Fingerprint, Key, Outcome};
use idem_sqlite::SqliteStore;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::application::{self, Application};

/// How long a caller pauses after "in flight". These callers know that the handler takes milliseconds; a client should wait
/// for `retry_after`.
const PAUSE: Duration = Duration::from_millis(1);

/// A caller without an answer after this time counts as failed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What stands between the callers and the handler.
pub(crate) enum Guard {
    /// A reservation before the handler runs.
    Idem(Engine),
    /// The usual cache: look for an answer, run if there is none, store the answer.
    Cache(Mutex<Connection>),
}

impl Guard {
    /// Opens the guard of a process, on files that all processes share.
    pub(crate) async fn open(directory: &Path, without_idem: bool) -> Result<Self, Box<dyn Error>> {
        if without_idem {
            let cache = application::open_shared(&directory.join("cache.db"))?;
            cache.execute_batch(include_str!("cache.sql"))?;
            return Ok(Self::Cache(Mutex::new(cache)));
        }
        let store = SqliteStore::connect(&format!("sqlite:{}", directory.join("idem.db").display())).await?;
        Ok(Self::Idem(Engine::builder(store).build()?))
    }
}

/// A caller's final answer.
#[derive(Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) body: String,
    /// Whether the handler ran for this caller.
    pub(crate) executed: bool,
    /// How often the caller got "in flight" before.
    pub(crate) refusals: u32,
}

/// What the callers of a process share.
pub(crate) struct Service {
    pub(crate) guard: Guard,
    pub(crate) application: Application,
}

impl Service {
    /// Sends the request for `key` until there is an answer.
    pub(crate) async fn ask(&self, key: &str, caller: u32) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let answer = async {
            match &self.guard {
                Guard::Idem(engine) => self.ask_idem(engine, key, caller).await,
                Guard::Cache(cache) => self.ask_cache(cache, key, caller).await,
            }
        };
        tokio::time::timeout(TIMEOUT, answer).await?
    }

    async fn ask_idem(
        &self,
        engine: &Engine,
        name: &str,
        caller: u32,
    ) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let key = Key::new("POST /databases", name)?;
        let fingerprint = Fingerprint::from_parts(["POST", "/databases", name]);
        let mut refusals = 0;
        loop {
            let handler = |_attempt| async { self.application.create(name, caller).await.map(Bytes::from) };
            let (body, executed) = match engine.execute_bytes(&key, &fingerprint, handler).await? {
                Outcome::Executed(body) => (body, true),
                Outcome::Replayed(body) => (body, false),
                Outcome::InFlight { .. } => {
                    refusals += 1;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                // In this race no lease ends, no payload differs and the store does not fail.
                other => return Err(format!("{name}: unexpected outcome {other:?}").into()),
            };
            return Ok(Answer { body: String::from_utf8(body.into())?, executed, refusals });
        }
    }

    /// Between the miss and the insert, every other caller misses as well.
    async fn ask_cache(
        &self,
        cache: &Mutex<Connection>,
        key: &str,
        caller: u32,
    ) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let lock = || cache.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().query_row(include_str!("cache_get.sql"), [key], |row| row.get(0)).optional()?;
        if let Some(body) = known {
            return Ok(Answer { body, executed: false, refusals: 0 });
        }
        let body = self.application.create(key, caller).await?;
        lock().execute(include_str!("cache_set.sql"), (key, &body))?;
        Ok(Answer { body, executed: true, refusals: 0 })
    }
}
