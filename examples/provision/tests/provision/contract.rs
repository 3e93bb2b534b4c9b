//! What is asked, and what is answered.

use std::net::TcpListener;

use serde_json::json;
use test_servers::redis::Server;

use crate::support::{Files, provision};

#[test]
fn a_request_creates_once_and_its_duplicate_is_given_the_same_bytes() {
    let files = Files::new();
    let service = files.serve(&["--simulate"]);
    for kind in ["db", "cache", "nosql"] {
        let ask = || service.post(&format!("/{kind}"), Some("red"), Some("a"), r#"{"name": "orders"}"#);
        let first = ask();
        assert_eq!((first.status, first.is_replay), (201, false));
        let created = first.json();
        assert_eq!(created["kind"], kind);
        assert_eq!(
            (&created["team"], &created["name"], &created["attempt"]),
            (&json!("red"), &json!("orders"), &json!(1))
        );
        assert!(created["fence"].as_u64().unwrap() > 0);
        let replay = ask();
        assert_eq!((replay.status, replay.is_replay, replay.body), (201, true, first.body));
    }
    let rows = service.ledger();
    assert_eq!(rows.len(), 3);
    let columns: Vec<_> = rows[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(columns, ["at", "attempt", "fence", "id", "key", "kind", "name", "outcome", "team"]);
    assert_eq!((&rows[0]["key"], &rows[0]["outcome"]), (&json!("a"), &json!("ok")));
}

#[test]
fn a_request_without_a_key_is_its_own_key_within_the_window() {
    let files = Files::new();
    let service = files.serve(&["--simulate"]);
    let first = service.create(None, r#"{"name": "orders"}"#);
    let again = service.create(None, r#"{"name": "orders"}"#);
    assert_eq!((first.status, again.is_replay, &again.body), (201, true, &first.body));
    assert!(!service.create(None, r#"{"name": "invoices"}"#).is_replay);
    assert_eq!(service.ledger()[0]["key"], json!(null));
}

#[test]
fn each_team_has_its_own_keys_and_nobody_asks_without_one() {
    let files = Files::new();
    let service = files.serve(&["--simulate"]);
    let ask = |team| service.post("/db", team, Some("a"), r#"{"name": "orders"}"#);
    assert_eq!((ask(Some("red")).status, ask(Some("blue")).status), (201, 201));
    assert!(ask(Some("red")).json()["team"] == "red" && ask(Some("blue")).json()["team"] == "blue");
    assert_eq!((ask(None).status, ask(Some("")).status), (401, 401));
    assert_eq!(service.ledger().len(), 2);
}

#[test]
fn a_team_may_have_any_name() {
    let files = Files::new();
    let service = files.serve(&[]);
    let created = service.post("/db", Some("équipe 7"), Some("k"), r#"{"name": "orders"}"#);
    assert_eq!(created.status, 201);
    assert_eq!(created.json()["team"], "équipe 7");
}

#[test]
fn another_payload_under_the_same_key_is_refused() {
    let files = Files::new();
    let service = files.serve(&[]);
    assert_eq!(service.create(Some("a"), r#"{"name": "orders"}"#).status, 201);
    let refused = service.create(Some("a"), r#"{"name": "invoices"}"#);
    assert_eq!((refused.status, &refused.json()["code"]), (422, &json!("idempotency_key_reused")));
}

#[test]
fn unknown_fields_and_simulation_where_it_is_not_allowed_are_refused() {
    let files = Files::new();
    let service = files.serve(&[]);
    assert_eq!(service.create(Some("a"), r#"{"name": "orders", "size": 1}"#).status, 400);
    assert_eq!(service.create(Some("b"), r#"{"name": "orders", "simulate": {}}"#).status, 400);
    assert_eq!(service.create(Some("c"), "no JSON").status, 400);
    assert_eq!(service.create(Some("d"), r#"["orders"]"#).status, 400);
    assert_eq!(service.create(Some("e"), r#"{"name": "orders", "simulate": null}"#).status, 400);
    assert_eq!((service.get("/ledger").status, service.get("/healthz").status), (404, 200));
}

#[test]
fn each_outcome_ends_as_it_is_told() {
    let files = Files::new();
    let service = files.serve(&["--simulate"]);
    let ask = |outcome: &str| {
        service.create(
            Some(outcome),
            &format!(r#"{{"name": "orders", "simulate": {{"outcome": "{outcome}"}}}}"#),
        )
    };
    let rejected = ask("reject");
    assert_eq!((rejected.status, rejected.json()), (400, json!({"error": "rejected", "id": 1})));
    assert_eq!(ask("reject").json()["id"], 1, "a rejection is the request's answer");
    for run in 2..=3 {
        let conflict = ask("conflict");
        assert_eq!((conflict.status, conflict.json()), (409, json!({"error": "conflict"})));
        assert_eq!(service.ledger().len(), run, "a conflict may be another one next time");
    }
    for outcome in ["error", "panic"] {
        assert_eq!((ask(outcome).status, ask(outcome).status), (500, 500));
    }
    let attempts: Vec<_> = service.ledger().iter().map(|row| row["attempt"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [1, 1, 1, 1, 2, 1, 2]);
}

#[test]
fn what_a_store_cannot_do_is_said_at_the_start() {
    let files = Files::new();
    let ledger = files.path("ledger.db").display().to_string();
    let refuses = |arguments: &[&str], why: &str| {
        let output = provision().arg("serve").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert!(output.stdout.is_empty());
    };
    refuses(
        &["--store", "memory:", "--transactional"],
        "--transactional needs a store that has transactions",
    );
    let redis = Server::redis();
    refuses(
        &["--store", &redis.socket_url(), "--transactional"],
        "--transactional needs a store that has transactions",
    );
    refuses(&["--store", "redis+unix:/nowhere", "--ledger", &ledger], "connect");
    refuses(&["--store", "mongodb://user:secret@host", "--ledger", &ledger], "`sqlite:PATH`, `redis://..`");
    refuses(&["--store", "sqlite:", "--ledger", &ledger], "connect");
    refuses(
        &["--store", "memory:", "--ledger", &ledger, "--fingerprint-window", "0s"],
        "--fingerprint-window",
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    refuses(&["--store", "memory:", "--ledger", &ledger, "--listen", &taken], &taken);
    let no_ledger = files.path("none").join("ledger.db").display().to_string();
    refuses(&["--store", "memory:", "--ledger", &no_ledger], &no_ledger);
    for scheme in ["mongodb", "redis", "postgres"] {
        let url = format!("{scheme}://user:secret@127.0.0.1:1/db");
        let output = provision().args(["serve", "--store", &url, "--ledger", &ledger]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && !said.contains("secret"), "{said}");
    }
}
