//! A pooler between the store and its server.

use idem_conformance::span;
use std::sync::Arc;

use idem_core::store::{OwnerToken, ReserveRequest};
use idem_core::{ReservationStore, StoreErrorKind};
use idem_postgres::{Options, PostgresStore};
use test_servers::postgres::{PgBouncer, Postgres};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::{LEASE, key, payload};

/// pgbouncer's issue 759: it takes the end of a statement that failed for that of the next one on the same connection. If
/// the caller of that one goes away, the server goes to somebody else in the midst of it, together with its answer.
#[tokio::test]
async fn after_a_failed_statement_and_a_caller_that_went_away_nobody_is_given_anothers_answer() {
    let server = Postgres::start().await;
    let pooler = PgBouncer::start_before(slow_to_end_failures(server.address().port()).await).await;
    let open =
        async || PostgresStore::connect_with(&pooler.url(), Options::new().pool_size(1)).await.unwrap();
    let (store, another) = (open().await, open().await);
    let (key, owner) = (key(), OwnerToken::random());
    let _ = store.reserve(&key, ReserveRequest::new(owner, payload(), span(LEASE))).await.unwrap();

    let operator = server.client().await;
    operator.batch_execute("ALTER TABLE idem_record RENAME TO aside").await.unwrap();
    let failed = store.get(&key).await.unwrap_err();
    assert_eq!(failed.kind, StoreErrorKind::Misconfigured);
    operator.batch_execute("ALTER TABLE aside RENAME TO idem_record").await.unwrap();

    operator.batch_execute("BEGIN; SELECT FROM idem_record FOR UPDATE").await.unwrap();
    let abandoning = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move { store.abandon(&key, owner).await }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    while server.client().await.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    abandoning.abort();
    assert!(abandoning.await.unwrap_err().is_cancelled());

    let told = tokio::spawn(async move { another.get(&key).await });
    operator.batch_execute("COMMIT").await.unwrap();
    assert_eq!(told.await.unwrap().unwrap().unwrap().attempt, 1);
}

/// A way to the server on which, after each error, the message that it is ready for the next statement comes once that has
/// been sent. Any link may be as slow.
async fn slow_to_end_failures(server_port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            let asked = Arc::new(Notify::new());
            tokio::spawn(requests(from_client, to_server, Arc::clone(&asked)));
            tokio::spawn(answers(from_server, to_client, asked));
        }
    });
    port
}

async fn requests(
    mut client: impl AsyncReadExt + Unpin,
    mut server: impl AsyncWriteExt + Unpin,
    asked: Arc<Notify>,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        match client.read(&mut bytes).await? {
            0 => return Ok(()),
            read => server.write_all(&bytes[..read]).await?,
        }
        asked.notify_waiters();
    }
}

/// Hands on one message after the other: a letter, the length of the rest with itself, the rest.
async fn answers(
    mut server: impl AsyncReadExt + Unpin,
    mut client: impl AsyncWriteExt + Unpin,
    asked: Arc<Notify>,
) -> std::io::Result<()> {
    let mut asked_next = None;
    loop {
        let mut head = [0; 5];
        server.read_exact(&mut head).await?;
        let mut rest = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
        server.read_exact(&mut rest).await?;
        match (head[0], asked_next.take()) {
            (b'E', _) => {
                let mut next = Box::pin(Arc::clone(&asked).notified_owned());
                next.as_mut().enable();
                asked_next = Some(next);
            }
            (b'Z', Some(next)) => next.await,
            _ => {}
        }
        client.write_all(&[&head[..], &rest].concat()).await?;
    }
}
