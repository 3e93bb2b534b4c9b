//! [`Script`]: an operation, as the server runs it: one command, one round trip, one atomic step.
//!
//! A script is named by its digest (`EVALSHA`). A server that does not know it (it was restarted, it was promoted, somebody
//! flushed its scripts) says so, and is sent the whole script *together with the call* (`EVAL`), so that a flush that
//! comes in between makes no difference.
//!
//! What an owner needs to finish is allowed when the server is at its `maxmemory` (`allow-oom`): it frees memory sooner or
//! later, and takes little. A reservation is not.

use std::sync::LazyLock;

use redis::{Cmd, Value};

use crate::error::is_no_script;
use crate::link::{Failure, Link};

/// A script with its digest.
pub(crate) struct Script {
    code: String,
    digest: String,
}

macro_rules! scripts {
    ($($name:ident: $file:literal, $flags:literal;)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($flags, include_str!(concat!("scripts/", $file))));)*

        #[cfg(test)]
        static ALL: &[(&str, &LazyLock<Script>)] = &[$(($file, &$name)),*];
    };
}

scripts! {
    RESERVE: "reserve.lua", "";
    RENEW: "renew.lua", " flags=allow-oom";
    COMPLETE: "complete.lua", " flags=allow-oom";
    RELEASE: "release.lua", " flags=allow-oom";
    ABANDON: "abandon.lua", " flags=allow-oom";
    GET: "get.lua", " flags=no-writes";
}

impl Script {
    fn new(flags: &str, code: &str) -> Self {
        let code = code.replace("--@record.lua\n", include_str!("scripts/record.lua"));
        let code = format!("#!lua{flags}\n{code}");
        let digest = redis::Script::new(&code).get_hash().to_owned();
        Self { code, digest }
    }

    /// Runs it on a key, with the arguments that `add` puts behind.
    pub(crate) async fn run(
        &self,
        link: &Link,
        key: &[u8],
        add: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, Failure> {
        match link.command(&command("EVALSHA", &self.digest, key, &add)).await {
            Err(failure) if is_no_script(&failure.error) => {
                // Boxed, so that the rare way does not make every operation's future larger.
                Box::pin(link.command(&command("EVAL", &self.code, key, &add))).await
            }
            answered => answered,
        }
    }
}

fn command(name: &str, script: &str, key: &[u8], add: impl Fn(&mut Cmd)) -> Cmd {
    // More than any but a completion takes, so that it is allocated once.
    let mut command = Cmd::with_capacity(8, name.len() + script.len() + key.len() + 128);
    command.arg(name).arg(script).arg("1").arg(key);
    add(&mut command);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_under_which_conditions_it_runs_and_has_every_part() {
        for (file, script) in ALL {
            assert!(script.code.starts_with("#!lua"), "{file}");
            assert!(!script.code.contains("--@"), "{file} lacks a part");
            assert_eq!(script.digest.len(), 40, "{file}");
        }
    }
}
