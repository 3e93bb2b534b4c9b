//! [`Sentinel`]: asks one Sentinel for the master.

use redis::{ErrorKind, RedisResult, Value};

use crate::address::{Endpoint, Login};
use crate::link::dial::Dialer;

/// One Sentinel, and the name that it has for the master.
#[derive(Clone)]
pub(super) struct Sentinel {
    pub(super) endpoint: Endpoint,
    pub(super) login: Login,
    pub(super) service: String,
    pub(super) dialer: Dialer,
}

/// What one Sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Epochs begin at 0 and count every failover. `None`: the user may not ask for it.
    pub(super) epoch: Option<u64>,
    pub(super) master: Endpoint,
}

impl Sentinel {
    /// Asks it, on a new connection.
    pub(super) async fn ask(&self) -> RedisResult<Answer> {
        let mut questions = redis::pipe();
        // The first answer names a promoted replica before the second does. Only the second has the epoch.
        questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        questions.cmd("SENTINEL").arg("MASTER").arg(&self.service);
        let mut answers = self.dialer.ask(&self.endpoint, &self.login, &questions).await?.into_iter();
        read(answers.next().unwrap_or(Value::Nil), answers.next().unwrap_or(Value::Nil), &self.endpoint)
    }
}

/// Reads the address of a master, and its details: names and values in turn.
fn read(address: Value, details: Value, sentinel: &Endpoint) -> RedisResult<Answer> {
    let Some((ip, port)) = redis::from_redis_value::<Option<(String, String)>>(address.extract_error()?)?
    else {
        return Err(
            (ErrorKind::MasterNameNotFoundBySentinel, "a Sentinel knows no master of this name").into()
        );
    };
    let master = Endpoint::from_server(&format!("{ip}:{port}"), sentinel.host())
        .ok_or((ErrorKind::UnexpectedReturnType, "the master's address cannot be read"))?;
    // A Sentinel's user may be allowed to ask for the address only.
    let details: Vec<(String, String)> = redis::from_redis_value(details).unwrap_or_default();
    let epoch = details.iter().find(|(name, _)| name == "config-epoch");
    let epoch = epoch.and_then(|(_, epoch)| epoch.parse().ok());
    Ok(Answer { epoch, master })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

    use super::*;

    fn strings(fields: &[&str]) -> Value {
        Value::Array(fields.iter().map(|field| Value::BulkString(field.as_bytes().to_vec())).collect())
    }

    fn sentinel() -> Endpoint {
        Endpoint::Tcp { host: "s".to_owned(), port: 26_379 }
    }

    #[test]
    fn a_master_is_read_with_its_epoch() {
        let details = strings(&[
            "name",
            "shop",
            "ip",
            "10.0.0.9",
            "port",
            "7",
            "flags",
            "master",
            "config-epoch",
            "12",
        ]);
        let master = Endpoint::Tcp { host: "10.0.0.1".to_owned(), port: 7 };
        let answer = read(strings(&["10.0.0.1", "7"]), details, &sentinel()).unwrap();
        assert_eq!(answer, Answer { epoch: Some(12), master });
    }

    #[test]
    fn a_user_who_may_not_ask_for_the_epoch_still_gets_the_master() {
        let details = redis::parse_redis_value(b"-NOPERM no\r\n").unwrap();
        assert_eq!(read(strings(&["10.0.0.1", "7"]), details, &sentinel()).unwrap().epoch, None);
    }

    #[test]
    fn a_name_that_no_sentinel_knows_is_a_mistake_of_the_configuration() {
        let error = read(Value::Nil, Value::Nil, &sentinel()).unwrap_err();
        assert_eq!(crate::error::kind(&error), idem_core::StoreErrorKind::Misconfigured);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for fields in [&["h", "port"][..], &["h"], &[]] {
            assert!(read(strings(fields), Value::Nil, &sentinel()).is_err(), "{fields:?}");
        }
    }
}
