//! Reads what servers answer to `INFO` and `CONFIG GET`.

use redis::{RedisError, Value};

use super::report::{Persistence, Reported, ServerHealth};
use crate::error::Failure;

/// The names and values of an answer, or why there is none.
pub(super) struct Fields(pub(super) Result<Vec<(String, String)>, String>);

impl Fields {
    /// The answer to `INFO`.
    pub(super) fn from_info(answer: Result<Value, Failure>) -> Self {
        Self::read(answer, |value| {
            let text: String = redis::from_redis_value(value)?;
            let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
            Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        })
    }

    /// The answer to `CONFIG GET`.
    pub(super) fn from_config(answer: Result<Value, Failure>) -> Self {
        Self::read(answer, |value| Ok(redis::from_redis_value(value)?))
    }

    fn read(
        answer: Result<Value, Failure>,
        read: impl FnOnce(Value) -> Result<Vec<(String, String)>, RedisError>,
    ) -> Self {
        Self(answer.map_err(|failure| failure.error).and_then(read).map_err(|error| error.to_string()))
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        let fields = self.0.as_ref().ok()?;
        fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn get(&self, name: &str) -> Reported<String> {
        match (&self.0, self.find(name)) {
            (_, Some(value)) => Reported::Known(value.to_owned()),
            (Err(reason), None) => Reported::Unknown(reason.clone()),
            (Ok(_), None) => Reported::Unknown(format!("the server's answer has no {name}")),
        }
    }
}

impl ServerHealth {
    pub(super) fn read(address: String, info: &Fields, config: &Fields) -> Self {
        let version = info.get("redis_version").map(|redis| match info.find("valkey_version") {
            Some(valkey) => format!("Valkey {valkey}"),
            None => format!("Redis {redis}"),
        });
        Self {
            version,
            role: info.get("role"),
            // `CONFIG` has the setting itself. `INFO` has it too, and more users may run it.
            eviction: config.get("maxmemory-policy").or_else(|| info.get("maxmemory_policy")),
            persistence: persistence(info, config),
            replicas: match info.get("connected_slaves") {
                Reported::Known(count) => count.parse().map_or_else(|_| unreadable(), Reported::Known),
                Reported::Unknown(reason) => Reported::Unknown(reason),
            },
            address,
        }
    }
}

fn persistence(info: &Fields, config: &Fields) -> Reported<Persistence> {
    let is_append_only = config
        .get("appendonly")
        .map(|value| value == "yes")
        .or_else(|| info.get("aof_enabled").map(|value| value == "1"));
    match is_append_only {
        Reported::Unknown(reason) => Reported::Unknown(reason),
        Reported::Known(true) => {
            Reported::Known(Persistence::AppendOnly { fsync: config.get("appendfsync") })
        }
        // Only the configuration says whether there are snapshots.
        Reported::Known(false) => config
            .get("save")
            .map(|save| if save.is_empty() { Persistence::Nothing } else { Persistence::Snapshots }),
    }
}

fn unreadable<T>() -> Reported<T> {
    Reported::Unknown("the server's answer cannot be read".to_owned())
}
