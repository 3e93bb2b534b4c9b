//! Finds the LLVM programs that read coverage, of a release that knows the format this compiler writes.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::install::apt;
use crate::step::{Result, fail, read, rustc, succeeds};

/// The oldest release that reads what today's compilers write; those of Debian 12 before it, 14 and 16, do not.
const OLDEST: u32 = 19;

/// `llvm-cov` and `llvm-profdata`.
pub(crate) struct Tools {
    pub(crate) cov: PathBuf,
    pub(crate) profdata: PathBuf,
    /// What they say of themselves.
    pub(crate) version: String,
}

impl Tools {
    /// Takes those that the environment names, those that belong to the toolchain, or the system's: of the compiler's
    /// own release before an older one. Installs a system package if there are none.
    ///
    /// INV-1: the toolchain is never changed. A component that appears in it would appear for every other project.
    pub(crate) fn find_or_install() -> Result<Self> {
        if let (Some(cov), Some(profdata)) = (env::var_os("LLVM_COV"), env::var_os("LLVM_PROFDATA")) {
            return Self::at(cov.into(), profdata.into());
        }
        let newest = compiler_release()?;
        let releases = || (OLDEST..=newest).rev();
        if let Some(tools) = Self::of_toolchain().ok().or_else(|| releases().find_map(Self::of_system)) {
            return Ok(tools);
        }
        let installed = releases().find_map(|release| {
            apt(&[&format!("llvm-{release}")]).ok()?;
            Self::of_system(release)
        });
        let otherwise = || fail(format!("install LLVM's tools of release {newest}, or at least {OLDEST}"));
        installed.map_or_else(otherwise, Ok)
    }

    fn of_toolchain() -> Result<Self> {
        let sysroot = read(Command::new("rustc").args(["--print", "sysroot"]))?;
        let programs = PathBuf::from(sysroot.trim()).join("lib/rustlib").join(rustc("host")?).join("bin");
        Self::at(programs.join("llvm-cov"), programs.join("llvm-profdata"))
    }

    fn of_system(release: u32) -> Option<Self> {
        let named = |name: &str| PathBuf::from(format!("{name}-{release}"));
        Self::at(named("llvm-cov"), named("llvm-profdata")).ok()
    }

    fn at(cov: PathBuf, profdata: PathBuf) -> Result<Self> {
        if !succeeds(Command::new(&profdata).arg("--version")) {
            return fail(format!("`{}` does not run", profdata.display()));
        }
        let said = read(Command::new(&cov).arg("--version"))?;
        let version =
            said.lines().find(|line| line.contains("LLVM version")).unwrap_or("LLVM").trim().to_owned();
        Ok(Self { cov, profdata, version })
    }
}

/// The release of LLVM that the compiler is built on.
fn compiler_release() -> Result<u32> {
    let version = rustc("LLVM version")?;
    let release = version.split('.').next().and_then(|release| release.parse().ok());
    release.map_or_else(|| fail(format!("`rustc -vV` says LLVM version {version}, which is none")), Ok)
}
