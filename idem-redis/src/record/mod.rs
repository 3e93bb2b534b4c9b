//! How a record becomes a string on the server.
//!
//! The first byte is the record's state and its format's version: these four letters are version 1, and a later version
//! uses others. What a script reads is at a fixed offset, highest byte first; the rest of a completed record is in
//! postcard's format. The README shows how to read a record with `redis-cli`.
//!
//! | state | bytes |
//! |---|---|
//! | in flight | `I`, token (16), fingerprint (32), lease in ms (5), `record_ttl` in ms (5), attempt (4), fence (7) |
//! | abandoned | the same with `A`, and the end of the lease in ms since the epoch (6) |
//! | completed | `C`, token (16), fingerprint (32), fence (7), [`TailV1`](frame::TailV1) in postcard's format, the answer's bytes |
//! | released | `R`, token (16), attempt (4), fence (7) |
//!
//! The key's time to live is the record's. While a record is in flight it is the rest of the lease plus `record_ttl`. The
//! end of the lease is therefore not stored: it follows from the time to live, and moves with it when the server's clock
//! steps or a Cluster moves the key to another node.
//!
//! Times are in milliseconds because the server counts expiry in them. A record exists up to and including the last
//! millisecond of its time to live, and a lease runs up to and including its last. So both are never shorter than
//! requested, and at most one millisecond longer.
//!
//! A completed record with an answer of 64 bytes should fit into 124 bytes, because the allocator's next class after 128
//! is 160. Therefore `kept_for` is stored in its largest whole unit, and the format is one number.
//!
//! # Why fences increase
//!
//! Every fence is `max(the record's fence + 1, the server's time in microseconds)`; the script that writes the record
//! computes it. While the key has a record in any state, the first term orders two owners, however the clock steps. Once
//! the record is forgotten only the clock is left, and it has moved on: a record lives for at least a millisecond, a
//! server does not do as many takeovers in that time as it has microseconds, and so the clock is past every fence of the
//! record. Three things break this: a clock that steps back by more than the time until the record was forgotten,
//! eviction, and `DEL`. The README says so. A fence above 2^53 - 1 is refused and never wraps.
//!
//! INV-1: what does not decode to its last byte is an error. It is never a record, and never counts as absent.
//! Scripts check letter and length. In two cases that does not decide. The numbers of a completed record: scripts return
//! it for `decode`. And values that no script writes in the other three states (a fence of zero or above 2^53 - 1, a lease
//! or `record_ttl` that is no valid span): scripts do not look at them. `get` then reports the record as `Corrupt`, and an
//! answer that was stored over such a fence is `Corrupt` for its readers; nothing runs again.

mod decode;
mod encode;
mod frame;
mod name;
#[cfg(test)]
mod tests;

pub(crate) use self::decode::decode;
pub(crate) use self::encode::{answer, kept_for, millis, new_in_flight};
pub(crate) use self::frame::{Frame, FrameError, FrameState, TimeToLive};
pub(crate) use self::name::name;
