//! Stored answers that an engine cannot read, and answers that a store cannot keep, are never a reason to run again.

use std::convert::Infallible;

use bytes::Bytes;
use idem_core::{ExecuteError, Outcome};

use super::support::{build, builder, engine, never_run, run};
use crate::case::{Context, cases};
use crate::values::fingerprint;

cases![Engine:
    n108_an_answer_of_another_schema_is_an_error_and_not_run_again,
    n108_an_answer_of_another_codec_is_an_error_and_not_run_again,
    n91_an_answer_that_is_too_large_for_the_store_is_not_kept_and_not_run_again [AnswerLimit],
];

async fn n108_an_answer_of_another_schema_is_an_error_and_not_run_again(cx: Context) {
    let (old, new) = (build(builder(&cx).schema(1)), build(builder(&cx).schema(2)));
    assert!(matches!(run(&cx, &old, "first").await, Ok(Outcome::Executed(_))));
    let refused = new.execute(&cx.key(), &fingerprint("payload"), never_run).await;
    assert!(matches!(refused, Err(ExecuteError::Codec(_))), "{refused:?}");
    assert!(matches!(run(&cx, &old, "second").await, Ok(Outcome::Replayed(value)) if value == "first"));
}

async fn n108_an_answer_of_another_codec_is_an_error_and_not_run_again(cx: Context) {
    let (engine, key, payload) = (engine(&cx), cx.key(), fingerprint("payload"));
    let bytes =
        engine.execute_bytes(&key, &payload, |_| async { Ok::<_, Infallible>(Bytes::from("\"first\"")) });
    assert!(matches!(bytes.await, Ok(Outcome::Executed(_))));
    let refused = engine.execute(&key, &payload, never_run).await;
    assert!(matches!(refused, Err(ExecuteError::Codec(_))), "{refused:?}");
}

async fn n91_an_answer_that_is_too_large_for_the_store_is_not_kept_and_not_run_again(cx: Context) {
    let (engine, key, payload) = (engine(&cx), cx.key(), fingerprint("payload"));
    let limit = cx.harness().max_answer_bytes().expect("the case is ignored otherwise");
    let too_large = Bytes::from(vec![0; limit + 1]);
    let first =
        engine.execute_bytes(&key, &payload, |_| async { Ok::<_, Infallible>(too_large.clone()) }).await;
    assert!(matches!(&first, Ok(Outcome::Executed(value)) if *value == too_large));
    let again = engine.execute(&key, &payload, never_run).await;
    assert!(matches!(again, Ok(Outcome::NotKept)), "{again:?}");
}
