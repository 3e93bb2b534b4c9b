//! [`Case`]: one named guarantee; [`Context`]: what a case works with; and `cases!`, the list at the top of each file.

mod context;
mod setting;

use std::pin::Pin;

use crate::Harness;

pub(crate) use context::{Context, joined};
pub(crate) use setting::{Need, Setting};

/// One case of the suite: a guarantee, checked on a fresh store.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub(crate) module: &'static str,
    pub(crate) function: &'static str,
    pub(crate) setting: Setting,
    pub(crate) needs: &'static [Need],
    pub(crate) run: fn(Context) -> CaseFuture,
}

impl Case {
    /// The name: the chapter, the scenario's number and the guarantee, as in
    /// `reserve::n03_another_owner_during_the_lease_is_in_flight`.
    pub fn name(&self) -> String {
        let chapter = self.module.split_once("::").map_or(self.module, |(_crate, module)| module);
        format!("{}::{}", chapter.trim_start_matches("cases::"), self.function)
    }

    /// Why the backend cannot run this case; `None` if it can.
    pub fn ignored(&self, harness: &dyn Harness) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.unmet(harness, self.setting))
    }

    /// Whether the case runs several threads, so that a broken store may pass it by chance.
    pub fn is_concurrent(&self) -> bool {
        self.setting == Setting::Threads
    }
}

/// What a case's function returns. It stays on one thread.
pub(crate) type CaseFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Lists the cases of a file as its `CASES`. Each case is a private function, so the compiler warns about one that is not
/// listed.
///
/// The setting comes first. What a case needs beyond the contract follows its name.
macro_rules! cases {
    ($setting:ident: $($function:ident $([$($need:expr),+])?),+ $(,)?) => {
        pub(crate) const CASES: &[$crate::case::Case] = &[$(
            $crate::case::Case {
                module: module_path!(),
                function: stringify!($function),
                setting: $crate::case::Setting::$setting,
                needs: {
                    #[allow(unused_imports, reason = "most cases need nothing")]
                    use $crate::{Ability::*, case::Need::*};
                    &[$($($need),+)?]
                },
                run: |cx| Box::pin($function(cx)),
            }
        ),+];
    };
}
pub(crate) use cases;
