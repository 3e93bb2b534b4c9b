//! What a client asks for.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::response::json;

/// The kinds of resources.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Db,
    Cache,
    Nosql,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Db, Self::Cache, Self::Nosql];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Db => "db",
            Self::Cache => "cache",
            Self::Nosql => "nosql",
        }
    }
}

/// The body of a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewResource {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "some_object")]
    simulate: Option<Simulate>,
}

/// How the request is to go, in audits.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Simulate {
    /// How long before the effect.
    delay_ms: u64,
    /// How long after the effect.
    hold_ms: u64,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "String")] // a name and nothing else: serde alone would also take `{"ok": null}`
pub(crate) enum Outcome {
    #[default]
    Ok,
    Error,
    Panic,
    Reject,
    Conflict,
    Abort,
}

impl TryFrom<String> for Outcome {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = [Self::Ok, Self::Error, Self::Panic, Self::Reject, Self::Conflict, Self::Abort];
        known.into_iter().find(|outcome| outcome.name() == name).ok_or_else(|| {
            let names = known.map(Self::name).join(", ");
            format!("`{name}` is no outcome; these are: {names}")
        })
    }
}

impl Outcome {
    /// As it stands in the ledger.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Reject => "reject",
            Self::Conflict => "conflict",
            Self::Abort => "abort",
        }
    }
}

impl NewResource {
    /// Reads a body, which may have `simulate` only where that is allowed.
    pub(crate) fn parse(body: &[u8], may_simulate: bool) -> Result<Self, Invalid> {
        let Object(new) =
            serde_json::from_slice::<Object<Self>>(body).map_err(|error| Invalid(error.to_string()))?;
        if new.simulate.is_some() && !may_simulate {
            return Err(Invalid("`simulate` is not allowed here; start the service with --simulate".into()));
        }
        if new.name.is_empty() {
            return Err(Invalid("`name` is empty".into()));
        }
        Ok(new)
    }

    pub(crate) fn simulate(&self) -> Simulate {
        self.simulate.unwrap_or_default()
    }
}

impl Simulate {
    pub(crate) fn delay(self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    pub(crate) fn hold(self) -> Duration {
        Duration::from_millis(self.hold_ms)
    }
}

/// A JSON object. A struct of serde alone is read from an array of its fields, too, which the documentation does not promise.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(OfMap(PhantomData))
    }
}

/// What is there is an object: `null` is neither one nor nothing.
fn some_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Object::deserialize(deserializer).map(|Object(object)| Some(object))
}

/// A body that is not one of ours: 400.
#[derive(Debug)]
pub(crate) struct Invalid(String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Invalid {
    pub(crate) fn response(&self) -> http::Response<bytes::Bytes> {
        json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": self.0 }))
    }
}

impl IntoResponse for Invalid {
    fn into_response(self) -> Response {
        self.response().map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_simulate_is_optional() {
        for body in [
            r#"{"name": "a"}"#,
            r#"{"name": "a", "simulate": {}}"#,
            r#"{"name": "a", "simulate": {"outcome": "abort"}}"#,
            r#"{"name": "a", "simulate": {"delay_ms": 1, "hold_ms": 2, "outcome": "reject"}}"#,
        ] {
            assert!(NewResource::parse(body.as_bytes(), true).is_ok(), "{body}");
        }
    }

    #[test]
    fn unknown_fields_and_outcomes_are_invalid() {
        for body in [
            "",
            "{}",
            r#"{"name": ""}"#,
            r#"{"name": 1}"#,
            r#"{"name": "a", "size": 1}"#,
            r#"{"name": "a", "simulate": {"later": 1}}"#,
            r#"{"name": "a", "simulate": {"outcome": "maybe"}}"#,
            r#"{"name": "a", "simulate": {"outcome": {"ok": null}}}"#,
            r#"{"name": "a"} trailing"#,
        ] {
            assert!(NewResource::parse(body.as_bytes(), true).is_err(), "{body}");
        }
    }

    #[test]
    fn what_is_not_an_object_is_invalid() {
        for body in [
            "null",
            r#""a""#,
            r#"["a"]"#,
            r#"["a", null]"#,
            r#"{"name": "a", "simulate": null}"#,
            r#"{"name": "a", "simulate": []}"#,
            r#"{"name": "a", "simulate": [0, 0, "ok"]}"#,
        ] {
            assert!(NewResource::parse(body.as_bytes(), true).is_err(), "{body}");
        }
    }

    #[test]
    fn simulate_is_refused_where_it_is_not_allowed() {
        assert!(NewResource::parse(br#"{"name": "a", "simulate": {}}"#, false).is_err());
        assert!(NewResource::parse(br#"{"name": "a"}"#, false).is_ok());
    }
}
