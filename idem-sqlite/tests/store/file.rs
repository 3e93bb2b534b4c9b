//! Files that are replaced or damaged, and keys that share an entry of the index.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use idem_core::store::OwnerToken;
use idem_core::{CompleteOutcome, Key, ReservationStore, StoreErrorKind};
use idem_sqlite::SqliteOptions;

use crate::support::{
    Directory, assert_no_effect, complete, completed, is_replayed, key, reserve, reserved, source_of,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_replaced_is_never_written_to() {
    for replace in [true, false] {
        let directory = Directory::new();
        let options = SqliteOptions::new().maintenance_interval(Duration::from_millis(10));
        let store = directory.open_with(options).await;
        reserved(&store, &key("a")).await;
        fs::rename(directory.file(), directory.file().with_extension("moved")).unwrap();
        if replace {
            fs::write(directory.file(), "").unwrap();
        }
        let error = reserve(&store, &key("b"), OwnerToken::random()).await.unwrap_err();
        assert_no_effect(&error, StoreErrorKind::Unavailable);
        assert!(source_of(&error).contains("deleted or replaced"));
        // Maintenance tells the readers.
        while store.get(&key("a")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if replace {
            assert_eq!(fs::metadata(directory.file()).unwrap().len(), 0);
        }
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_its_own_operations_and_no_others() {
    let directory = Directory::new();
    let store = directory.open().await;
    reserved(&store, &key("a")).await;
    let damage = "UPDATE idem_record SET record = x'01020304'";
    assert_eq!(directory.connection().execute(damage, []).unwrap(), 1);
    let (bad, good) = (key("a"), key("b"));
    let [bad, good] = [&bad, &good].map(|key| complete(&store, key, OwnerToken::random(), "x"));
    let (bad, good) = tokio::join!(bad, good);
    assert_no_effect(&bad.unwrap_err(), StoreErrorKind::Corrupt);
    assert_eq!(good.unwrap(), CompleteOutcome::Lost);
    let error = reserve(&store, &key("a"), OwnerToken::random()).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Corrupt);
    assert_eq!(reserved(&store, &key("b")).await.attempt, 1);
}

/// The index holds only four bytes of a key's digest.
#[tokio::test]
async fn keys_with_the_same_index_entry_are_different_keys() {
    let (one, other) = keys_with_the_same_entry();
    let directory = Directory::new();
    let store = directory.open().await;
    let owner = reserved(&store, &one).await.owner;
    completed(&store, &one, owner, "one").await;
    assert_eq!(store.get(&other).await.unwrap(), None);
    let granted = reserved(&store, &other).await;
    assert_eq!(granted.attempt, 1);
    completed(&store, &other, granted.owner, "other").await;
    assert!(is_replayed(&store, &one, "one").await);
    assert!(is_replayed(&store, &other, "other").await);
    let pairs =
        "SELECT count(*) FROM idem_record AS a JOIN idem_record AS b USING (digest) WHERE a.id < b.id";
    assert_eq!(directory.count(pairs), 1);
}

/// Two keys whose digests begin with the same four bytes. A few hundred thousand keys are enough to find some.
fn keys_with_the_same_entry() -> (Key, Key) {
    let mut seen = HashMap::new();
    for number in 0.. {
        let key = key(&format!("{number}"));
        let first: [u8; 4] = key.digest().as_bytes()[..4].try_into().unwrap();
        if let Some(earlier) = seen.insert(first, key.clone()) {
            return (earlier, key);
        }
    }
    unreachable!("there are more keys than values of four bytes")
}
