//! Finds the LLVM programs that read coverage.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::install::apt;
use crate::step::{Result, fail, read, rustc, succeeds};

/// The oldest release that reads what today's compilers write. Debian 12 also has 14 and 16, which do not.
const OLDEST: u32 = 19;

/// The variables that tell cargo-llvm-cov which programs to use: none if it finds them itself, and otherwise those of
/// the system, which are installed if they are missing.
///
/// INV-1: the toolchain is never changed. A component that is added to it appears for every other project.
pub(crate) fn variables() -> Result<Vec<(&'static str, String)>> {
    let sysroot = read(Command::new("rustc").args(["--print", "sysroot"]))?;
    let component = Path::new(sysroot.trim()).join("lib/rustlib").join(rustc("host")?).join("bin/llvm-cov");
    if component.exists() || (env::var_os("LLVM_COV").is_some() && env::var_os("LLVM_PROFDATA").is_some()) {
        return Ok(Vec::new());
    }
    let version = rustc("LLVM version")?;
    let newest = version.split('.').next().and_then(|release| release.parse().ok()).unwrap_or(OLDEST);
    let releases = || (OLDEST..=newest).rev();
    let runs = |release: &u32| {
        ["llvm-cov", "llvm-profdata"]
            .iter()
            .all(|program| succeeds(Command::new(format!("{program}-{release}")).arg("--version")))
    };
    let install = |release: &u32| apt(&[&format!("llvm-{release}")]).is_ok() && runs(release);
    match releases().find(runs).or_else(|| releases().find(install)) {
        Some(release) => Ok(vec![
            ("LLVM_COV", format!("llvm-cov-{release}")),
            ("LLVM_PROFDATA", format!("llvm-profdata-{release}")),
        ]),
        None => fail(format!("install LLVM's tools of release {newest}, or of at least {OLDEST}")),
    }
}
