//! A full disk.

use std::fs;
use std::path::Path;
use std::process::Command;

use idem_core::store::{OwnerToken, ReserveOutcome};
use idem_core::{CompleteOutcome, Key, ReservationStore, StoreErrorKind};
use idem_postgres::PostgresOptions;
use test_servers::postgres::Postgres;

use crate::support::{Shop, assert_without_effect, completion, request};

/// Compiles the library into the server's directory.
fn library(directory: &Path) {
    let source = directory.join("full_disk.c");
    fs::write(&source, include_str!("full_disk.c")).unwrap();
    let mut compile = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    compile.args(["-O2", "-shared", "-fPIC", "-D_FILE_OFFSET_BITS=32", "-o"]);
    let compiled = compile.arg(directory.join("full_disk.so")).arg(source).arg("-ldl").status().unwrap();
    assert!(compiled.success());
}

#[tokio::test]
async fn on_a_full_disk_new_keys_fail_and_replays_and_refusals_continue() {
    let server = Postgres::start_preloaded(library, "full_disk.so", "FULL_DISK").await;
    let flag = server.directory().join("FULL_DISK");
    let shop = Shop::on(server, PostgresOptions::new()).await;
    let name = |number: u32| Key::new("full", number.to_string()).unwrap();
    let reserve = async |number| {
        let owner = OwnerToken::random();
        shop.store.reserve(&name(number), request(owner)).await.map(|outcome| (owner, outcome))
    };
    let (owner, _) = reserve(0).await.unwrap();
    let completion = completion("answer");
    shop.store.complete(&name(0), owner, completion.clone()).await.map(drop).unwrap();
    let (running, _) = reserve(1).await.unwrap();

    fs::write(&flag, "").unwrap();
    let mut number = 2;
    // The free space in existing pages is used up first.
    let error = loop {
        match reserve(number).await {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert_without_effect(&error, StoreErrorKind::Full, "");
    assert!(matches!(reserve(0).await.unwrap().1, ReserveOutcome::Completed { .. }));
    assert!(matches!(reserve(1).await.unwrap().1, ReserveOutcome::InFlight { .. }));

    fs::remove_file(&flag).unwrap();
    assert!(matches!(reserve(number).await.unwrap().1, ReserveOutcome::Reserved { attempt: 1, .. }));
    let done = shop.store.complete(&name(1), running, completion).await.unwrap();
    assert_eq!(done, CompleteOutcome::Completed);
}
