//! [`Floor`]: the plain statements of an idempotency table, on the same pool as the store and sent in the same way; or
//! prepared once for each connection, which is faster, and not right behind every pooler.
//!
//! A first request looks for its key, claims it, and puts its answer into the claim. There are no attempts and fences, no
//! takeover, no expiry and nothing that could be swept.

use std::error::Error;

use deadpool_postgres::Pool;
use idem_core::{Fingerprint, Key};
use tokio_postgres::types::{ToSql, Type};

use crate::load::Request;

/// A lease of a minute.
const LEASE_SECONDS: i64 = 60;

#[derive(Clone, Debug)]
pub(crate) struct Floor {
    pool: Pool,
    is_prepared: bool,
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Floor {
    /// Makes the table.
    pub(crate) async fn create(pool: Pool) -> Result<Self, Box<dyn Error>> {
        pool.get().await?.batch_execute(include_str!("floor.sql")).await?;
        Ok(Self { pool, is_prepared: false })
    }

    /// The same with prepared statements.
    pub(crate) fn prepared(&self) -> Self {
        Self { pool: self.pool.clone(), is_prepared: true }
    }

    pub(crate) async fn first_request(&self, fingerprint: Fingerprint, request: &Request) {
        let Request { key, owner, answer } = request;
        let digest = key.digest();
        let (digest, owner) = (&digest.as_bytes()[..], &owner.as_bytes()[..]);
        let fingerprint = &fingerprint.as_bytes()[..];
        let found = self.run(include_str!("look_up.sql"), &[(&digest, Type::BYTEA)]).await;
        assert_eq!(found.len(), 0, "the key is there already");

        let claim: [Parameter<'_>; 6] = [
            (&digest, Type::BYTEA),
            (&key.scope(), Type::BYTEA),
            (&key.name(), Type::BYTEA),
            (&owner, Type::BYTEA),
            (&fingerprint, Type::BYTEA),
            (&LEASE_SECONDS, Type::INT8),
        ];
        assert_eq!(self.run(include_str!("claim.sql"), &claim).await.len(), 1, "the key was claimed already");

        let answer: [Parameter<'_>; 3] =
            [(&digest, Type::BYTEA), (&owner, Type::BYTEA), (&&answer[..], Type::BYTEA)];
        assert_eq!(self.run(include_str!("answer.sql"), &answer).await.len(), 1, "the claim is gone");
    }

    /// The answer of a key, and what it was for.
    pub(crate) async fn look_up(&self, key: &Key) -> (Vec<u8>, Vec<u8>) {
        let digest = key.digest();
        let digest = &digest.as_bytes()[..];
        let found = self.run(include_str!("look_up.sql"), &[(&digest, Type::BYTEA)]).await;
        let row = found.first().unwrap_or_else(|| panic!("the key is not there"));
        (row.get(1), row.get(3))
    }

    /// Each statement takes a connection for itself, as the store's operations do.
    async fn run(&self, sql: &str, parameters: &[Parameter<'_>]) -> Vec<tokio_postgres::Row> {
        let connection = self.pool.get().await.unwrap_or_else(|error| panic!("no connection: {error}"));
        let rows = if self.is_prepared {
            let types: Vec<_> = parameters.iter().map(|(_, ty)| ty.clone()).collect();
            let statement = connection.prepare_typed_cached(sql, &types).await;
            let statement = statement.unwrap_or_else(|error| panic!("not prepared: {error}"));
            let values: Vec<_> = parameters.iter().map(|(value, _)| *value).collect();
            connection.query(&statement, &values).await
        } else {
            connection.query_typed(sql, parameters).await
        };
        rows.unwrap_or_else(|error| panic!("the floor failed: {error}"))
    }
}
