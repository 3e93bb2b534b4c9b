//! Disks that fail: a sync that returns EIO, a full disk, and a directory that is not writable.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use idem_conformance::span;
use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{
    Admission, CompleteOutcome, Effect, Engine, ExpiredLeasePolicy, Outcome, ReservationStore,
    StoreErrorKind, StoredValue,
};
use idem_sqlite::{SqliteOptions, SqliteStore, TransactionOutcome};
use libtest_mimic::{Completion as Ended, Trial};

use crate::disk::{Disk, let_next_sync_fail, let_syncs_fail};
use crate::support::{
    DAY, LEASE, ManualClock, assert_no_effect, complete, completed, is_replayed, key, payload, reserve,
    reserved, source_of,
};
use crate::worker::{command, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let full = "on_a_full_disk_new_keys_are_refused_and_replays_continue";
    vec![
        trial("a_commit_whose_sync_fails_is_unknown_and_its_token_resolves_it", || {
            let disk = Disk::new();
            let mut process = command("failing_sync", &disk.root());
            disk.watch(&mut process);
            assert!(process.status().unwrap().success());
        }),
        Trial::ignorable_test(full, || {
            let directory = tempfile::tempdir().unwrap();
            let Some(mut process) = in_a_file_system_of_its_own(&command("full_disk", directory.path()))
            else {
                return Ok(Ended::ignored_with("this system does not let a process mount a file system"));
            };
            if process.status()?.success() {
                Ok(Ended::Completed)
            } else {
                Err("see the message above".into())
            }
        }),
        trial("a_directory_or_file_that_cannot_be_written_is_refused_with_the_reason", || {
            let directory = tempfile::tempdir().unwrap();
            prepare_read_only(directory.path());
            assert!(
                unprivileged(&command("read_only_directory", directory.path())).status().unwrap().success()
            );
        }),
    ]
}

/// A process on a disk whose syncs fail for a while.
pub(crate) async fn meet_failing_syncs(root: &Path) {
    let path = root.join("idem.db");
    let store = SqliteStore::open(&path, SqliteOptions::new()).await.unwrap();
    let done = reserved(&store, &key("done")).await.owner;
    completed(&store, &key("done"), done, "answer").await;
    let running = reserved(&store, &key("running")).await.owner;

    let_syncs_fail(root, true);
    let new = OwnerToken::random();
    for error in [
        reserve(&store, &key("new"), new).await.unwrap_err(),
        complete(&store, &key("running"), running, "answer").await.unwrap_err(),
    ] {
        assert_eq!((error.kind, error.effect), (StoreErrorKind::Unavailable, Effect::Unknown), "{error:?}");
    }
    assert!(is_replayed(&store, &key("done"), "answer").await, "a replay needs no sync");
    let_syncs_fail(root, false);

    let again = reserve(&store, &key("new"), new).await.unwrap();
    assert!(matches!(again, ReserveOutcome::Reserved { attempt: 1, .. }), "{again:?}");
    let again = complete(&store, &key("running"), running, "answer").await.unwrap();
    assert!(matches!(again, CompleteOutcome::Completed | CompleteOutcome::AlreadyCompleted), "{again:?}");

    the_engine_sends_again(&store, root).await;
    a_transaction_is_resolved(&store, root).await;
    store.close().await;
    let store = SqliteStore::open(&path, SqliteOptions::new()).await.unwrap();
    for name in ["done", "running"] {
        assert!(is_replayed(&store, &key(name), "answer").await, "{name}");
    }
    store.close().await;
}

async fn the_engine_sends_again(store: &SqliteStore, root: &Path) {
    let engine = Engine::builder(store.clone()).build().unwrap();
    for number in 0..10 {
        let (key, runs) = (key(&format!("engine {number}")), AtomicU32::new(0));
        let handler = async |_| {
            runs.fetch_add(1, Ordering::SeqCst);
            let_next_sync_fail(root);
            Ok::<_, std::io::Error>("executed".to_owned())
        };
        let_next_sync_fail(root);
        let outcome = engine.execute(&key, &payload(), handler).await.unwrap();
        assert!(matches!(outcome, Outcome::Executed(_)), "{outcome:?}");
        assert_eq!(runs.into_inner(), 1);
    }
}

/// It is not known whether a commit took effect. But the effect and the completion are both there or neither is, and the
/// caller learns which.
async fn a_transaction_is_resolved(store: &SqliteStore, root: &Path) {
    let connection = rusqlite::Connection::open(root.join("idem.db")).unwrap();
    connection.execute_batch("CREATE TABLE ledger (entry INTEGER NOT NULL) STRICT").unwrap();
    let engine = Engine::builder(store.clone()).build().unwrap();
    for number in 0..10 {
        let key = key(&format!("transaction {number}"));
        let Admission::Granted(reservation) = engine.reserve(&key, &payload()).await.unwrap() else {
            panic!("the key is free");
        };
        let_next_sync_fail(root);
        let result = store.complete_reservation(reservation, move |connection| {
            let rows = connection.execute("INSERT INTO ledger (entry) VALUES (?1)", [number])?;
            Ok::<_, rusqlite::Error>((rows, StoredValue::bytes("answer").into()))
        });
        let is_completed = match result.await {
            Ok(TransactionOutcome::Completed(1)) => true,
            Err(error) if error.effect == Effect::NotApplied => false,
            other => panic!("{other:?}"),
        };
        let count = "SELECT count(*) FROM ledger WHERE entry = ?1";
        let rows: u32 = connection.query_row(count, [number], |row| row.get(0)).unwrap();
        assert_eq!(rows, u32::from(is_completed));
        let next = engine.reserve(&key, &payload()).await.unwrap();
        match next {
            Admission::Replayed(_) => assert!(is_completed),
            Admission::Granted(_) => assert!(!is_completed),
            other => panic!("{other:?}"),
        }
    }
}

/// A process on a small disk of its own.
pub(crate) async fn fill_the_disk(directory: &Path) {
    let clock = ManualClock::new();
    let path = directory.join("idem.db");
    let store = SqliteStore::open(&path, clock.options()).await.unwrap();
    let done = reserved(&store, &key("done")).await.owner;
    completed(&store, &key("done"), done, "answer").await;
    let running = reserved(&store, &key("running")).await.owner;
    let crashed = reserved(&store, &key("crashed")).await.owner;

    let filler = directory.join("filler");
    fill(&filler);
    // The log may have space for a few more records.
    let error = loop {
        if let Err(error) = reserve(&store, &key("new"), OwnerToken::random()).await {
            break error;
        }
        fill(&filler);
    };
    assert_no_effect(&error, StoreErrorKind::Full);
    let big = Completion::new(StoredValue::bytes(vec![b'x'; 100_000]), span(DAY));
    let error = store.complete(&key("running"), running, big).await.unwrap_err();
    assert_no_effect(&error, StoreErrorKind::Full);

    assert!(is_replayed(&store, &key("done"), "answer").await, "a replay needs no space");
    let refused = reserve(&store, &key("running"), OwnerToken::random()).await.unwrap();
    assert!(matches!(refused, ReserveOutcome::InFlight { .. }), "a refusal needs no space: {refused:?}");
    // The end of a lease needs no write.
    clock.forward(LEASE);
    assert!(store.get(&key("crashed")).await.unwrap().unwrap().can_be_taken_over());
    let request = ReserveRequest::new(OwnerToken::random(), payload(), span(LEASE))
        .on_expired_lease(ExpiredLeasePolicy::Refuse);
    let refused = store.reserve(&key("crashed"), request).await.unwrap();
    assert_eq!(refused, ReserveOutcome::LeaseExpired { attempt: 1 });

    fs::remove_file(filler).unwrap();
    completed(&store, &key("running"), running, "answer").await;
    completed(&store, &key("crashed"), crashed, "late, but nobody took it").await;
    assert_eq!(reserved(&store, &key("another")).await.attempt, 1);
    store.close().await;
    let check = rusqlite::Connection::open(&path).unwrap();
    let integrity: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
}

/// Writes until no space is left.
fn fill(path: &Path) {
    let mut filler = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for size in [4096, 1] {
        while filler.write_all(&vec![0; size]).is_ok() {}
    }
}

/// Creates a file that is not writable, and a directory that is not writable.
fn prepare_read_only(directory: &Path) {
    let read_only = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(directory.join("closed")).unwrap();
    read_only(&directory.join("closed"), 0o555);
    fs::create_dir(directory.join("open")).unwrap();
    read_only(&directory.join("open"), 0o777);
    rusqlite::Connection::open(directory.join("open/idem.db")).unwrap().execute_batch("VACUUM").unwrap();
    read_only(&directory.join("open/idem.db"), 0o444);
    read_only(directory, 0o755);
}

/// A process without privileges.
pub(crate) async fn open_where_nothing_can_be_written(directory: &Path) {
    for (file, says) in [("closed/idem.db", "directory is not writable"), ("open/idem.db", "read-only")] {
        let error = SqliteStore::open(directory.join(file), SqliteOptions::new()).await.unwrap_err();
        assert_no_effect(&error, StoreErrorKind::Misconfigured);
        let source = source_of(&error);
        assert!(source.contains(says), "{source}");
    }
}

/// The command, with a file system of two megabytes at its directory. `None` if the system does not let a process mount
/// one.
fn in_a_file_system_of_its_own(command: &Command) -> Option<Command> {
    let mount = "mount -t tmpfs -o size=2m tmpfs \"$IDEM_SQLITE_DIRECTORY\"";
    let of = |script: String| {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
            .arg(script)
            .arg(command.get_program());
        unshare.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        unshare
    };
    let is_permitted = of(mount.to_owned()).output().is_ok_and(|output| output.status.success());
    is_permitted.then(|| of(format!("{mount} && exec \"$0\"")))
}

/// The command without privileges: root can write every file.
fn unprivileged(command: &Command) -> Command {
    let id = Command::new("id").arg("-u").output().unwrap().stdout;
    let mut unprivileged = if id == b"0\n" {
        // In this namespace the user has no privileges.
        let mut unshare = Command::new("unshare");
        unshare.arg("--user").arg(command.get_program());
        unshare
    } else {
        Command::new(command.get_program())
    };
    unprivileged.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unprivileged
}
