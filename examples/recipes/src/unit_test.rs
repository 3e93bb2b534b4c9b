//! Testing code that uses idem: the memory store follows tokio's clock, so a test moves it and never sleeps.

use std::sync::atomic::{AtomicU32, Ordering};

use idem_core::{Engine, ExecuteError, Fingerprint, InvalidKey, Key, Outcome};

/// Creates databases, each request once.
#[derive(Debug)]
pub struct Databases {
    engine: Engine,
    created: AtomicU32,
}

/// Why a database was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The request has no usable id.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The store or the handler failed.
    #[error(transparent)]
    Execute(#[from] ExecuteError<std::io::Error>),
}

impl Databases {
    /// A service on this engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine, created: AtomicU32::new(0) }
    }

    /// Creates a database for a request, and returns its id.
    pub async fn create(&self, request_id: &str, name: &str) -> Result<Outcome<String>, CreateError> {
        let key = Key::new("databases", request_id)?;
        let fingerprint = Fingerprint::from_parts(["create", name]);
        let created = self.engine.execute(&key, &fingerprint, async |attempt| {
            if attempt.number > 1 {
                // An earlier attempt may have created it: a real service looks for it here.
            }
            let number = self.created.fetch_add(1, Ordering::SeqCst) + 1;
            Ok::<_, std::io::Error>(format!("{name}-{number}"))
        });
        Ok(created.await?)
    }

    /// How many databases were created.
    pub fn created(&self) -> u32 {
        self.created.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use idem_core::Admission;
    use idem_memory::MemoryStore;
    use tokio::time::advance;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn engine() -> Engine {
        Engine::builder(MemoryStore::new()).retention(HOUR).build().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_duplicate_gets_the_first_answer_until_it_expires() {
        let databases = Databases::new(engine());
        let first = databases.create("request-1", "orders").await.unwrap();
        assert!(matches!(first, Outcome::Executed(id) if id == "orders-1"));
        let second = databases.create("request-1", "orders").await.unwrap();
        assert!(matches!(second, Outcome::Replayed(id) if id == "orders-1"));

        advance(HOUR).await;
        let third = databases.create("request-1", "orders").await.unwrap();
        assert!(matches!(third, Outcome::Executed(id) if id == "orders-2"));
        assert_eq!(databases.created(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_id_of_another_request_is_refused() {
        let databases = Databases::new(engine());
        let _ = databases.create("request-1", "orders").await.unwrap();
        let other = databases.create("request-1", "invoices").await.unwrap();
        assert!(matches!(other, Outcome::FingerprintMismatch));
        assert_eq!(databases.created(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_crash_the_next_attempt_knows_of_the_first() {
        let engine = engine();
        let (key, fingerprint) =
            (Key::new("databases", "request-1").unwrap(), Fingerprint::from_parts(["x"]));
        let Ok(Admission::Granted(crashed)) = engine.reserve(&key, &fingerprint).await else { panic!() };
        drop(crashed); // A panic or a dropped future has the same effect.
        tokio::task::yield_now().await;
        let Ok(Admission::Granted(next)) = engine.reserve(&key, &fingerprint).await else { panic!() };
        assert_eq!(next.attempt().number, 2);
    }
}
