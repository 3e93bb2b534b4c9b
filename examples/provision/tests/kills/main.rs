//! Exactly once, proven by killing: a process of the service is killed in a named window of each request, and its
//! clients go to two others until they have an answer.
//!
//! `IDEM_KILLS_PER_WINDOW` is how often each window has to be hit (6 by default), and `IDEM_KILLS_SEED` repeats the
//! order of an earlier run.

#![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

mod database;
mod rounds;
#[path = "../provision/servers.rs"]
mod servers;
#[path = "../provision/support.rs"]
mod support;
mod window;

use test_servers::redis::Server;

use crate::database::{Ledger, Sqlite};
use crate::rounds::{Mode, run};
use crate::servers::Postgres;
use crate::support::Files;

#[test]
fn with_the_effect_in_the_transaction_every_key_has_one_row_on_sqlite() {
    run(&Sqlite::new(), Mode::Transactional);
}

#[test]
fn with_the_effect_in_the_transaction_every_key_has_one_row_on_postgres() {
    run(&on_postgres(), Mode::Transactional);
}

#[test]
fn without_it_every_further_effect_has_a_higher_attempt_number_on_postgres() {
    run(&on_postgres(), Mode::Plain);
}

fn on_postgres() -> (Postgres, Files) {
    let postgres = Postgres::start();
    let files = Files::with_store(postgres.url());
    (postgres, files)
}

#[test]
fn without_it_every_further_effect_has_a_higher_attempt_number_on_sqlite() {
    run(&Sqlite::new(), Mode::Plain);
}

#[test]
fn without_it_every_further_effect_has_a_higher_attempt_number_on_redis() {
    let redis = Server::redis();
    run(&Ledger::with_store(redis.socket_url()), Mode::Plain);
}
