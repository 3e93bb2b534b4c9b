//! What servers tell of themselves, read.

use redis::{RedisError, Value};

use super::report::{Fact, Persistence, ServerHealth};
use crate::link::Failure;

/// What a server told of itself: names and values, or why it did not.
pub(super) struct Told(pub(super) Result<Vec<(String, String)>, String>);

impl Told {
    /// The answer to `INFO`.
    pub(super) fn info(answer: Result<Value, Failure>) -> Self {
        Self::of(answer, |value| {
            let text: String = redis::from_redis_value(value)?;
            let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
            Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        })
    }

    /// The answer to `CONFIG GET`.
    pub(super) fn config(answer: Result<Value, Failure>) -> Self {
        Self::of(answer, |value| Ok(redis::from_redis_value(value)?))
    }

    fn of(
        answer: Result<Value, Failure>,
        read: impl FnOnce(Value) -> Result<Vec<(String, String)>, RedisError>,
    ) -> Self {
        Self(answer.map_err(|failure| failure.error).and_then(read).map_err(|error| error.to_string()))
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        let told = self.0.as_ref().ok()?;
        told.iter().find(|(told, _)| told == name).map(|(_, value)| value.as_str())
    }

    fn get(&self, name: &str) -> Fact<String> {
        match (&self.0, self.find(name)) {
            (_, Some(value)) => Fact::Known(value.to_owned()),
            (Err(reason), None) => Fact::Unknown(reason.clone()),
            (Ok(_), None) => Fact::Unknown(format!("the server does not tell {name}")),
        }
    }
}

impl ServerHealth {
    pub(super) fn of(address: String, info: &Told, config: &Told) -> Self {
        let version = info.get("redis_version").map(|redis| match info.find("valkey_version") {
            Some(valkey) => format!("Valkey {valkey}"),
            None => format!("Redis {redis}"),
        });
        // The server's own setting first: `INFO` has it as well, and is allowed more often.
        let eviction = config.get("maxmemory-policy").or_else(|| info.get("maxmemory_policy"));
        Self {
            version,
            role: info.get("role"),
            eviction,
            persistence: persistence(info, config),
            replicas: match info.get("connected_slaves") {
                Fact::Known(count) => count.parse().map_or_else(|_| unreadable(), Fact::Known),
                Fact::Unknown(reason) => Fact::Unknown(reason),
            },
            address,
        }
    }
}

fn persistence(info: &Told, config: &Told) -> Fact<Persistence> {
    let is_append_only = config
        .get("appendonly")
        .map(|value| value == "yes")
        .or_else(|| info.get("aof_enabled").map(|value| value == "1"));
    match is_append_only {
        Fact::Unknown(reason) => Fact::Unknown(reason),
        Fact::Known(true) => Fact::Known(Persistence::AppendOnly { fsync: config.get("appendfsync") }),
        // Whether there are snapshots is told by the configuration alone.
        Fact::Known(false) => config
            .get("save")
            .map(|save| if save.is_empty() { Persistence::Nothing } else { Persistence::Snapshots }),
    }
}

fn unreadable<T>() -> Fact<T> {
    Fact::Unknown("the server's answer cannot be read".to_owned())
}
