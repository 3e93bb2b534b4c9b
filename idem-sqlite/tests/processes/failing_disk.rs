//! Disks that fail: a sync that says EIO, a disk that is full, a directory in which nothing can be written.

use idem_conformance::span;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use idem_core::store::{Completion, OwnerToken, ReserveOutcome, ReserveRequest};
use idem_core::{
    Admission, CompleteOutcome, Effect, Engine, ExpiredLeasePolicy, Fingerprint, Outcome, ReservationStore,
    StoreErrorKind, StoredValue,
};
use idem_sqlite::{Options, SqliteStore, Transacted};
use libtest_mimic::{Completion as Ended, Trial};

use crate::disk::{Disk, let_next_sync_fail, let_syncs_fail};
use crate::support::{DAY, Hands, LEASE, complete, completed, is_replayed, key, reserve, reserved};
use crate::worker::{command, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let full = "on_a_full_disk_nothing_new_is_taken_and_everything_that_needs_no_room_goes_on";
    vec![
        trial("a_commit_whose_sync_fails_is_unknown_and_is_resolved_by_its_token", || {
            let disk = Disk::new();
            let mut process = command("failing_sync", &disk.root());
            disk.watch(&mut process);
            assert!(process.status().unwrap().success());
        }),
        Trial::ignorable_test(full, || {
            let directory = tempfile::tempdir().unwrap();
            let Some(mut process) = in_a_file_system_of_its_own(&command("full_disk", directory.path()))
            else {
                return Ok(Ended::ignored_with("this system lets no process mount a file system of its own"));
            };
            if process.status()?.success() { Ok(Ended::Completed) } else { Err("see its words above".into()) }
        }),
        trial("a_directory_and_a_file_that_cannot_be_written_are_refused_with_what_to_do", || {
            let directory = tempfile::tempdir().unwrap();
            prepare_read_only(directory.path());
            assert!(
                unprivileged(&command("read_only_directory", directory.path())).status().unwrap().success()
            );
        }),
    ]
}

/// What a process does on a disk whose syncs fail for a while.
pub(crate) async fn meet_failing_syncs(root: &Path) {
    let path = root.join("idem.db");
    let store = SqliteStore::open(&path, Options::new()).await.unwrap();
    let (done, _, _) = reserved(&store, &key("done")).await;
    completed(&store, &key("done"), done, "answer").await;
    let (running, _, _) = reserved(&store, &key("running")).await;

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
    let store = SqliteStore::open(&path, Options::new()).await.unwrap();
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
        let outcome = engine.execute(&key, &Fingerprint::from_parts(["payload"]), handler).await.unwrap();
        assert!(matches!(outcome, Outcome::Executed(_)), "{outcome:?}");
        assert_eq!(runs.into_inner(), 1);
    }
}

/// Whether the commit took effect is not for anybody to say, but effect and completion go together, and the caller is
/// told which it was.
async fn a_transaction_is_resolved(store: &SqliteStore, root: &Path) {
    let connection = rusqlite::Connection::open(root.join("idem.db")).unwrap();
    connection.execute_batch("CREATE TABLE ledger (entry INTEGER NOT NULL) STRICT").unwrap();
    let engine = Engine::builder(store.clone()).build().unwrap();
    for number in 0..10 {
        let key = key(&format!("transaction {number}"));
        let Admission::Granted(reservation) =
            engine.reserve(&key, &Fingerprint::from_parts(["payload"])).await.unwrap()
        else {
            panic!("the key is free");
        };
        let_next_sync_fail(root);
        let result = store.complete_reservation(reservation, move |connection| {
            let rows = connection.execute("INSERT INTO ledger (entry) VALUES (?1)", [number])?;
            Ok::<_, rusqlite::Error>((rows, StoredValue::bytes("answer").into()))
        });
        let is_completed = match result.await {
            Ok(Transacted::Completed(1)) => true,
            Err(error) if error.effect == Effect::NotApplied => false,
            other => panic!("{other:?}"),
        };
        let count = "SELECT count(*) FROM ledger WHERE entry = ?1";
        let rows: u32 = connection.query_row(count, [number], |row| row.get(0)).unwrap();
        assert_eq!(rows, u32::from(is_completed));
        let next = engine.reserve(&key, &Fingerprint::from_parts(["payload"])).await.unwrap();
        match next {
            Admission::Replayed(_) => assert!(is_completed),
            Admission::Granted(_) => assert!(!is_completed),
            other => panic!("{other:?}"),
        }
    }
}

/// What a process does on a small disk, which is nobody else's.
pub(crate) async fn fill_the_disk(directory: &Path) {
    let hands = Hands::new();
    let path = directory.join("idem.db");
    let store = SqliteStore::open(&path, Options::new().clock(hands.clock())).await.unwrap();
    let (done, _, _) = reserved(&store, &key("done")).await;
    completed(&store, &key("done"), done, "answer").await;
    let (running, _, _) = reserved(&store, &key("running")).await;
    let (crashed, _, _) = reserved(&store, &key("crashed")).await;

    let filler = directory.join("filler");
    fill(&filler);
    // The log may have room for a little more.
    let error = loop {
        if let Err(error) = reserve(&store, &key("new"), OwnerToken::random()).await {
            break error;
        }
        fill(&filler);
    };
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Full, Effect::NotApplied), "{error:?}");
    let big = Completion::new(StoredValue::bytes(vec![b'x'; 100_000]), span(DAY));
    let error = store.complete(&key("running"), running, big).await.unwrap_err();
    assert_eq!((error.kind, error.effect), (StoreErrorKind::Full, Effect::NotApplied), "{error:?}");

    assert!(is_replayed(&store, &key("done"), "answer").await, "a replay needs no room");
    let refused = reserve(&store, &key("running"), OwnerToken::random()).await.unwrap();
    assert!(matches!(refused, ReserveOutcome::InFlight { .. }), "nor does a refusal: {refused:?}");
    // A lease ends without anybody writing it down.
    hands.forward(LEASE);
    assert!(store.get(&key("crashed")).await.unwrap().unwrap().can_be_taken_over());
    let request =
        ReserveRequest::new(OwnerToken::random(), Fingerprint::from_parts(["payload"]), span(LEASE))
            .on_expired_lease(ExpiredLeasePolicy::Refuse);
    let refused = store.reserve(&key("crashed"), request).await.unwrap();
    assert_eq!(refused, ReserveOutcome::LeaseExpired { attempt: 1 });

    fs::remove_file(filler).unwrap();
    completed(&store, &key("running"), running, "answer").await;
    completed(&store, &key("crashed"), crashed, "late, but nobody took it").await;
    assert_eq!(reserved(&store, &key("another")).await.2, 1);
    store.close().await;
    let check = rusqlite::Connection::open(&path).unwrap();
    let integrity: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
}

/// Writes until there is no room left.
fn fill(path: &Path) {
    let mut filler = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    for size in [4096, 1] {
        while filler.write_all(&vec![0; size]).is_ok() {}
    }
}

/// A file that cannot be written, and beside it a directory in which no file can be made.
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

/// What a process without privileges is told.
pub(crate) async fn open_where_nothing_can_be_written(directory: &Path) {
    for (file, says) in [("closed/idem.db", "directory is not writable"), ("open/idem.db", "read-only")] {
        let error = SqliteStore::open(directory.join(file), Options::new()).await.unwrap_err();
        assert_eq!(
            (error.kind, error.effect),
            (StoreErrorKind::Misconfigured, Effect::NotApplied),
            "{error:?}"
        );
        let source = error.source().unwrap().to_string();
        assert!(source.contains(says), "{source}");
    }
}

/// The command, on a file system of two megabytes at its directory. `None` where no process may mount one.
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

/// The command, without the privileges that this process may have: for root, every file can be written.
fn unprivileged(command: &Command) -> Command {
    let id = Command::new("id").arg("-u").output().unwrap().stdout;
    let mut unprivileged = if id == b"0\n" {
        // The same user, in a namespace in which that is nobody.
        let mut unshare = Command::new("unshare");
        unshare.arg("--user").arg(command.get_program());
        unshare
    } else {
        Command::new(command.get_program())
    };
    unprivileged.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unprivileged
}
