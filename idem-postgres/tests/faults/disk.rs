//! A disk that is full.

use idem_conformance::span;
use std::fs;
use std::path::Path;
use std::process::Command;

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{CompleteOutcome, Effect, Key, ReservationStore, StoreErrorKind, StoredValue};
use idem_postgres::Options;
use test_servers::postgres::Postgres;

use crate::support::{DAY, LEASE, Shop, payload, words};

/// Compiled once for each server: it stands in the server's own directory.
fn library(directory: &Path) {
    let source = directory.join("full_disk.c");
    fs::write(&source, include_str!("full_disk.c")).unwrap();
    let mut compile = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compile.args(["-O2", "-shared", "-fPIC", "-D_FILE_OFFSET_BITS=32", "-o"]);
    let compiled = compile.arg(directory.join("full_disk.so")).arg(source).arg("-ldl").status().unwrap();
    assert!(compiled.success());
}

#[tokio::test]
async fn on_a_full_disk_nothing_new_is_taken_and_replays_and_refusals_go_on() {
    let server = Postgres::start_preloaded(library, "full_disk.so", "FULL_DISK").await;
    let flag = server.directory().join("FULL_DISK");
    let shop = Shop::on(server, Options::new()).await;
    let name = |number: u32| Key::new("full", number.to_string()).unwrap();
    let reserve = async |number| {
        let owner = OwnerToken::random();
        shop.store
            .reserve(&name(number), ReserveRequest::new(owner, payload(), span(LEASE)))
            .await
            .map(|outcome| (owner, outcome))
    };
    let (owner, _) = reserve(0).await.unwrap();
    let completion = Completion::new(StoredValue::bytes("answer"), span(DAY));
    shop.store.complete(&name(0), owner, completion.clone()).await.map(drop).unwrap();
    let (running, _) = reserve(1).await.unwrap();

    fs::write(&flag, "").unwrap();
    let mut number = 2;
    // What room there is in the pages is used up first.
    let error = loop {
        match reserve(number).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Full, Effect::NotApplied), "{}", words(&error));
    assert!(matches!(reserve(0).await.unwrap().1, ReserveOutcome::Completed { .. }));
    assert!(matches!(reserve(1).await.unwrap().1, ReserveOutcome::InFlight { .. }));

    fs::remove_file(&flag).unwrap();
    assert!(matches!(reserve(number).await.unwrap().1, ReserveOutcome::Reserved { attempt: 1, .. }));
    let done = shop.store.complete(&name(1), running, completion).await.unwrap();
    assert_eq!(done, CompleteOutcome::Completed);
}
