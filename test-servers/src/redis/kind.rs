//! [`Kind`]: Redis or Valkey, and where its program is.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Which server a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `redis-server`, from the path.
    Redis,
    /// `valkey-server`: the one that `IDEM_VALKEY_SERVER` names, the one in the path, or the one that `cargo xtask test`
    /// has unpacked.
    Valkey,
}

impl Kind {
    /// The program. A missing Valkey fails the test: `cargo xtask test` installs both.
    pub fn program(self) -> PathBuf {
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
    let exists =
        |program: &Path| Command::new(program).arg("--version").output().is_ok_and(|it| it.status.success());
    // `cargo xtask test` unpacks it into the target directory.
    let directory = crate::build_directory();
    let unpacked = directory.ancestors().map(|parent| parent.join("servers").join("valkey-server"));
    [PathBuf::from("valkey-server")].into_iter().chain(unpacked).find(|program| exists(program))
}
