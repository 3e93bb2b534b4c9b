//! A pooler between the store and its server.

use std::sync::Arc;

use idem_core::store::OwnerToken;
use idem_core::{ReservationStore, StoreErrorKind};
use idem_postgres::{PostgresOptions, PostgresStore};
use test_servers::postgres::{PgBouncer, Postgres};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::{key, request};

/// pgbouncer issue 759: pgbouncer takes the end of a failed statement for the end of the next one on the same connection. If the
/// client of that one disconnects, its server goes to another client, and the answer with it.
#[tokio::test]
async fn after_a_failed_statement_no_client_gets_the_answer_of_another() {
    let server = Postgres::start().await;
    let pooler = PgBouncer::start_before(slow_to_end_failures(server.address().port()).await).await;
    let open = async || {
        PostgresStore::connect_with(&pooler.url(), PostgresOptions::new().pool_size(1)).await.unwrap()
    };
    let (store, another) = (open().await, open().await);
    let (key, owner) = (key(), OwnerToken::random());
    let _ = store.reserve(&key, request(owner)).await.unwrap();

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

    let outcome = tokio::spawn(async move { another.get(&key).await });
    operator.batch_execute("COMMIT").await.unwrap();
    assert_eq!(outcome.await.unwrap().unwrap().unwrap().attempt, 1);
}

/// A connection to the server that delays the message "ready for the next statement" after each error until the next statement
/// was sent. Any network can be as slow.
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

/// Passes on one message after the other: a letter, the length of the rest including itself, the rest.
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
