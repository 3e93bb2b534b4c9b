//! Stored answers that this engine cannot read are errors, and never a reason to run again.

use std::convert::Infallible;

use bytes::Bytes;
use idem_core::{ExecuteError, Outcome};

use super::{build, builder, engine, never_run, run};
use crate::case::cases;
use crate::context::{Context, fingerprint};

cases![Engine:
    n108_an_answer_of_another_schema_is_an_error_and_not_run_again,
    n108_an_answer_of_another_codec_is_an_error_and_not_run_again,
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
