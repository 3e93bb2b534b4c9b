//! The checker: it searches an order of one key's calls that explains every reply.
//!
//! It is Wing and Gong's search (1993) with Lowe's memory (2017): take any call that may come next, check with the
//! [oracle](crate::oracle) that its reply is permitted after the calls taken before, and go on. Remember which sets of
//! calls led to which histories without success. Keys are independent, so each is checked alone.

use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;

use crate::oracle::{Call, Reply};
use crate::oracle::{Essence, Oracle};

/// One call of a key, between two instants of a counter that all clients share.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) invoked: u64,
    /// When it returned, and its reply. `None` if the outcome is unknown: it took effect at any time after it was invoked,
    /// or never.
    pub(crate) returned: Option<(u64, Reply)>,
    pub(crate) call: Call,
}

/// How far the times in a reply may be off. The histories use leases of hours and take moments: nothing expires in them,
/// and the times in the replies do not matter.
const SLACK: Duration = Duration::from_secs(3600);

/// Fails with a report of the calls if no order explains them.
pub(crate) fn check(operations: &[Operation]) -> Result<(), String> {
    assert!(operations.len() <= 128, "the set of calls is kept in 128 bits");
    let mut search = Search { operations, failed: HashSet::new(), furthest: 0 };
    if search.explains(0, &Oracle::default()) { Ok(()) } else { Err(search.report()) }
}

struct Search<'a> {
    operations: &'a [Operation],
    /// The sets of calls, with the essence of their history, after which the search failed.
    failed: HashSet<(u128, Essence)>,
    /// The largest set of calls that could be put into an order.
    furthest: u128,
}

impl Search<'_> {
    /// Whether the calls that are not in `taken` can be put into an order after those that led to `history`.
    fn explains(&mut self, taken: u128, history: &Oracle) -> bool {
        let operations = self.operations;
        let open = || operations.iter().enumerate().filter(move |(index, _)| taken & (1 << index) == 0);
        // The first return among the rest: a call that was invoked after it cannot come before it.
        let Some(horizon) = open().filter_map(|(_, operation)| Some(operation.returned.as_ref()?.0)).min()
        else {
            return true;
        };
        if taken.count_ones() > self.furthest.count_ones() {
            self.furthest = taken;
        }
        if !self.failed.insert((taken, history.essence())) {
            return false;
        }
        open().filter(|(_, operation)| operation.invoked < horizon).any(|(index, operation)| {
            let reply = operation.returned.as_ref().map(|(_, reply)| reply);
            let next = history.after(Duration::ZERO, &operation.call, reply, SLACK);
            next.iter().any(|history| self.explains(taken | (1 << index), history))
        })
    }

    fn report(&self) -> String {
        let mut report =
            "no order explains these replies (+ marks those that some order explains together):".to_owned();
        for (index, Operation { invoked, returned, call }) in self.operations.iter().enumerate() {
            let mark = if self.furthest & (1 << index) == 0 { ' ' } else { '+' };
            let answer = match returned {
                Some((at, reply)) => format!("..{at}: {:?}, fence {:?}", reply.kind, reply.fence),
                None => "..: unknown".to_owned(),
            };
            write!(report, "\n{mark} {invoked}{answer} to {call:?}").expect("a string can be written to");
        }
        report
    }
}
