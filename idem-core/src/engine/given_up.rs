//! [`GivenUp`]: a reservation that nobody will use is settled.

use std::sync::Arc;

use crate::engine::admission::Caller;
use crate::engine::attempt::Ownership;
use crate::engine::settlement;
use crate::engine::shutdown::Active;
use crate::store::OwnerToken;

/// How many given-up reservations of an engine are being released at once. While a store is down every request gives
/// one up; beyond these few they are left to their leases, so that the store is not kept down by them.
pub(crate) const RELEASES_AT_ONCE: usize = 64;

/// Releases a reservation when it is dropped, unless it is disarmed: it was given up with an unknown outcome, or its
/// caller went away before the answer came. Whether it took effect or still will, the release makes it stale.
///
/// An operator's reservation is abandoned instead: a release would say for the run that it took over, too, that
/// nothing has happened.
pub(crate) struct GivenUp<'a> {
    caller: &'a Caller<'a>,
    owner: OwnerToken,
    is_armed: bool,
}

impl<'a> GivenUp<'a> {
    pub(crate) fn new(caller: &'a Caller<'a>, owner: OwnerToken) -> Self {
        Self { caller, owner, is_armed: true }
    }

    pub(crate) fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        let shared = self.caller.shared;
        // Without a runtime or a place among the few, the lease has to run out.
        let (true, Some(runtime)) = (self.is_armed, &self.caller.runtime) else { return };
        let Ok(place) = Arc::clone(&shared.given_up).try_acquire_owned() else { return };
        let (active, how) = (Active::count(shared), self.caller.when_given_up);
        let run = Ownership::given_up(self.caller.key, self.owner);
        drop(runtime.spawn(async move {
            settlement::surrender_in_background(active.shared(), &run, how).await;
            drop(place);
        }));
    }
}
