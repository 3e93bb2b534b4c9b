//! The service in front of the application: the same handler, behind idem or behind the classic cache of answers.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use idem_core::{Engine, Fingerprint, Key, Outcome};

use crate::application::Application;

/// How long a caller pauses after "in flight". One behind a network would heed `retry_after`, which is the rest of the
/// owner's lease at the most; these know that the handler takes milliseconds.
const PAUSE: Duration = Duration::from_millis(1);

/// A caller that has no answer by then counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What keeps duplicates from the handler.
pub(crate) enum Guard {
    /// A reservation before the handler runs.
    Idem(Engine),
    /// The classic: look for an answer, run if there is none, keep the answer.
    GetRunSet(Mutex<HashMap<String, Bytes>>),
}

/// A caller's final answer.
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    /// Whether the handler ran for this caller.
    pub(crate) executed: bool,
    /// How often it was told "in flight" before.
    pub(crate) refusals: u32,
}

/// What every caller shares.
pub(crate) struct Service {
    pub(crate) guard: Guard,
    pub(crate) application: Application,
}

impl Service {
    /// Asks for `key` until there is an answer.
    pub(crate) async fn ask(&self, key: &str, caller: u32) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let answer = async {
            match &self.guard {
                Guard::Idem(engine) => self.ask_idem(engine, key, caller).await,
                Guard::GetRunSet(answers) => self.ask_cache(answers, key, caller).await,
            }
        };
        tokio::time::timeout(PATIENCE, answer).await?
    }

    async fn ask_idem(
        &self,
        engine: &Engine,
        name: &str,
        caller: u32,
    ) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let key = Key::new("POST /databases", name)?;
        let fingerprint = Fingerprint::of(["POST", "/databases", name]);
        let mut refusals = 0;
        loop {
            let handler = |_attempt| self.application.create(name, caller);
            let (body, executed) = match engine.execute_bytes(&key, &fingerprint, handler).await? {
                Outcome::Executed(body) => (body, true),
                Outcome::Replayed(body) => (body, false),
                Outcome::InFlight { .. } => {
                    refusals += 1;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                // No lease ends, no payload differs and the store does not fail in this race.
                other => return Err(format!("{name}: {other:?} should not be possible here").into()),
            };
            return Ok(Answer { body, executed, refusals });
        }
    }

    /// Between the miss and the insert, every other caller misses too.
    async fn ask_cache(
        &self,
        answers: &Mutex<HashMap<String, Bytes>>,
        key: &str,
        caller: u32,
    ) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        let lock = || answers.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(key).cloned();
        if let Some(body) = known {
            return Ok(Answer { body, executed: false, refusals: 0 });
        }
        let body = self.application.create(key, caller).await?;
        lock().insert(key.to_owned(), body.clone());
        Ok(Answer { body, executed: true, refusals: 0 })
    }
}
