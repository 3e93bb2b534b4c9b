//! [`Kind`]: whose server it is, and where its program is.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Which server a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Valkey,
}

impl Kind {
    /// A server that is missing is a failure: `cargo xtask test` installs both.
    pub(crate) fn program(self) -> PathBuf {
        match self {
            Self::Redis => "redis-server".into(),
            Self::Valkey => valkey().expect(
                "there is no valkey-server: run `cargo xtask test`, put one into the PATH, or name it in IDEM_VALKEY_SERVER",
            ),
        }
    }
}

fn valkey() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("IDEM_VALKEY_SERVER") {
        return Some(named.into());
    }
    let is_there =
        |program: &Path| Command::new(program).arg("--version").output().is_ok_and(|it| it.status.success());
    // Where `cargo xtask test` puts it: beside the builds.
    let test = std::env::current_exe().ok()?;
    let unpacked = test.ancestors().map(|parent| parent.join("servers").join("valkey-server"));
    [PathBuf::from("valkey-server")].into_iter().chain(unpacked).find(|program| is_there(program))
}
