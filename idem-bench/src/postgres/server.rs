//! The measured server: one that is started in a directory, or one that already runs.

use std::io;
use std::path::Path;

use test_servers::postgres::Postgres;

use crate::flush;
use crate::rounds::Spread;

pub(super) struct Server {
    pub(super) url: String,
    /// Kept so that it is stopped at the end.
    own: Option<Postgres>,
}

impl Server {
    /// `postgres:` and a directory, or a URL. An own server has Postgres's own settings and a quarter of a gigabyte of
    /// shared memory.
    pub(super) async fn of(store: &str) -> Self {
        match store.strip_prefix("postgres:") {
            Some(directory) if !directory.starts_with("//") => {
                let own = Postgres::start_durable(Path::new(directory), &["shared_buffers=256MB"]).await;
                Self { url: own.url(), own: Some(own) }
            }
            _ => Self { url: store.to_owned(), own: None },
        }
    }

    /// How long the disk takes to flush a page, if the disk is known.
    pub(super) fn flush(&self) -> io::Result<Option<Spread>> {
        self.own.as_ref().map(|own| flush::latency(own.directory())).transpose()
    }
}
