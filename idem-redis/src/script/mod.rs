//! [`Script`]: an operation as the server runs it, in one command, one round trip and one atomic step.
//!
//! A script is called by its digest (`EVALSHA`). A server that does not know it was restarted or promoted, or its scripts
//! were flushed. It then gets the whole script *together with the call* (`EVAL`), so that another flush in between makes
//! no difference.
//!
//! Owners can finish on a server that is at its `maxmemory` (`allow-oom`): finishing takes little memory and frees it
//! sooner or later. A reservation cannot be made there.

pub(crate) mod reply;

use std::sync::LazyLock;

use redis::{Cmd, Value};

use crate::error::{Failure, is_no_script};
use crate::link::Link;

/// A script with its digest.
pub(crate) struct Script {
    code: String,
    digest: String,
}

macro_rules! scripts {
    ($($name:ident: $file:literal, $flags:literal;)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($flags, include_str!($file)));)*

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
        let code = code.replace("--@record.lua\n", include_str!("record.lua"));
        let code = format!("#!lua{flags}\n{code}");
        let digest = redis::Script::new(&code).get_hash().to_owned();
        Self { code, digest }
    }

    /// Runs it on a key, with the arguments that `add` appends.
    pub(crate) async fn run(
        &self,
        link: &Link,
        key: &[u8],
        add: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, Failure> {
        match link.command(&command("EVALSHA", &self.digest, key, &add)).await {
            Err(failure) if is_no_script(&failure.error) => {
                // Boxed, so that the rare case does not make every operation's future larger.
                Box::pin(link.command(&command("EVAL", &self.code, key, &add))).await
            }
            answered => answered,
        }
    }
}

fn command(name: &str, script: &str, key: &[u8], add: impl Fn(&mut Cmd)) -> Cmd {
    // Enough for every operation but a completion, so that the command is allocated once.
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
