//! Adversarial keys: keys that a careless store would confuse, or execute.

use idem_core::store::ReserveOutcome;
use idem_core::{CompleteOutcome, Key};

use crate::case::{Context, cases};
use crate::values::{bytes, key};

cases![Store:
    n93_the_border_between_scope_and_name_counts,
    n94_keys_with_braces_are_independent,
    n95_case_counts,
    n95_trailing_blanks_count,
    n95_composed_and_decomposed_letters_are_different,
    n96_quotes_globs_newlines_sql_and_lua_in_a_key_are_inert,
    n96_quotes_globs_newlines_sql_and_lua_in_an_answer_are_inert,
    n97_two_scopes_with_one_name_are_independent,
    n97_a_sweep_a_release_and_an_abandon_touch_only_their_key,
];

const HOSTILE: [&str; 14] = [
    "' OR 1=1 --",
    "'; DROP TABLE idem_records; --",
    "\"",
    "`id`",
    "%",
    "_",
    "*",
    "[a-z]?",
    "\\",
    "line\nbreak\r\n",
    "\0",
    "$1",
    "redis.call('FLUSHALL')",
    "${jndi:x}{{7*7}}",
];

async fn n93_the_border_between_scope_and_name_counts(cx: Context) {
    let pairs = [
        ("a:b", "c"),
        ("a", "b:c"),
        ("ab", "c"),
        ("a", "bc"),
        ("a/b", "c"),
        ("a", "b/c"),
        ("a\0b", "c"),
        ("a", "b\0c"),
        ("a|b", "c"),
        ("a", "b|c"),
    ];
    expect_independent(&cx, pairs.map(|(scope, name)| key(scope, name))).await;
}

/// A cluster hashes only the text between braces. It must neither mix these keys up nor need them on one node.
async fn n94_keys_with_braces_are_independent(cx: Context) {
    let tagged = (0..32).map(|number| key("{tenant}", format!("{number}")));
    let spread = (0..32).map(|number| key(format!("{{{number}}}"), "{name}"));
    let odd = ["{", "}", "{}", "}{", "{{a}}", "{a", "a}"].map(|name| key("braces", name));
    expect_independent(&cx, tagged.chain(spread).chain(odd)).await;
}

async fn n95_case_counts(cx: Context) {
    expect_independent(
        &cx,
        [key("scope", "abc"), key("scope", "ABC"), key("Scope", "abc"), key("scope", "aBc")],
    )
    .await;
}

async fn n95_trailing_blanks_count(cx: Context) {
    let names = ["name", "name ", "name  ", " name", "name\t", "name\n"];
    let keys = names.map(|name| key("scope", name)).into_iter().chain([key("scope ", "name")]);
    expect_independent(&cx, keys).await;
}

async fn n95_composed_and_decomposed_letters_are_different(cx: Context) {
    expect_independent(&cx, [key("scope", "caf\u{e9}"), key("scope", "cafe\u{301}")]).await;
}

async fn n96_quotes_globs_newlines_sql_and_lua_in_a_key_are_inert(cx: Context) {
    let bystander = cx.caller();
    bystander.reserved().await;
    let keys = HOSTILE.iter().flat_map(|hostile| [key("scope", hostile), key(hostile, "name")]);
    expect_independent(&cx, keys).await;
    assert_eq!(bystander.complete("untouched").await, CompleteOutcome::Completed);
}

async fn n96_quotes_globs_newlines_sql_and_lua_in_an_answer_are_inert(cx: Context) {
    for (number, hostile) in HOSTILE.iter().enumerate() {
        let owner = cx.caller_of(&key("answers", format!("{number}")));
        owner.reserved().await;
        owner.completed(*hostile).await;
        assert!(
            owner.snapshot().await.is_some_and(|snapshot| snapshot.answer == Some(bytes(*hostile))),
            "{hostile:?}"
        );
    }
}

async fn n97_two_scopes_with_one_name_are_independent(cx: Context) {
    expect_independent(&cx, [key("tenant 1", "request"), key("tenant 2", "request")]).await;
}

async fn n97_a_sweep_a_release_and_an_abandon_touch_only_their_key(cx: Context) {
    let neighbours = ["tenant 1", "tenant 2", "tenant 3"].map(|scope| cx.caller_of(&key(scope, "request")));
    for neighbour in &neighbours {
        neighbour.reserved().await;
    }
    neighbours[0].released().await;
    neighbours[1].abandoned().await;
    cx.store().sweep(usize::MAX).await.expect("a sweep works");
    let challenger = cx.caller_of(neighbours[2].key());
    assert!(matches!(challenger.reserve().await, ReserveOutcome::InFlight { attempt: 1, .. }));
}

/// Reserves and completes each key with a different answer, and expects each to be the first attempt and to keep its
/// answer.
pub(super) async fn expect_independent(cx: &Context, keys: impl IntoIterator<Item = Key>) {
    let owners: Vec<_> = keys.into_iter().map(|key| cx.caller_of(&key)).collect();
    for owner in &owners {
        let outcome = owner.reserve().await;
        let is_first = matches!(outcome, ReserveOutcome::Reserved { attempt: 1, .. });
        assert!(is_first, "{:?} met another key's record: {outcome:?}", shown(owner.key()));
    }
    for (number, owner) in owners.iter().enumerate() {
        assert_eq!(owner.complete(format!("answer {number}")).await, CompleteOutcome::Completed);
    }
    for (number, owner) in owners.iter().enumerate() {
        let snapshot = owner.snapshot().await;
        let is_its_own =
            snapshot.is_some_and(|snapshot| snapshot.answer == Some(bytes(format!("answer {number}"))));
        assert!(is_its_own, "{:?} has another key's answer", shown(owner.key()));
    }
}

/// The text of a key. `Debug` hides it, but these keys are no secrets.
fn shown(key: &Key) -> (String, String) {
    (key.scope().escape_ascii().to_string(), key.name().escape_ascii().to_string())
}
