//! Alternation of floor and subject, and what is reckoned from their rounds.

use std::time::{Duration, Instant};

/// The middle of some measurements and how far they lie apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Of no measurements, all three are zero.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        Self { median: at(values.len() / 2), least: at(0), greatest: at(values.len().saturating_sub(1)) }
    }

    /// Of a single measurement.
    pub(crate) fn single(value: f64) -> Self {
        Self { median: value, least: value, greatest: value }
    }
}

/// What floor and subject took in each round.
#[derive(Debug)]
pub(crate) struct Rounds {
    floor: Vec<f64>,
    subject: Vec<f64>,
}

impl Rounds {
    pub(crate) fn floor(&self) -> Spread {
        Spread::of(self.floor.clone())
    }

    pub(crate) fn subject(&self) -> Spread {
        Spread::of(self.subject.clone())
    }

    /// Subject minus floor, round by round.
    pub(crate) fn difference(&self) -> Spread {
        Spread::of(self.subject.iter().zip(&self.floor).map(|(subject, floor)| subject - floor).collect())
    }

    /// How many times as fast the subject is, round by round.
    pub(crate) fn speed(&self) -> Spread {
        Spread::of(self.subject.iter().zip(&self.floor).map(|(subject, floor)| floor / subject).collect())
    }

    /// Subject by floor, round by round.
    pub(crate) fn ratio(&self) -> Spread {
        Spread::of(self.subject.iter().zip(&self.floor).map(|(subject, floor)| subject / floor).collect())
    }
}

/// Runs both once without counting, then in turns; the side that goes first changes with each round.
pub(crate) fn alternate(
    rounds: usize,
    mut floor: impl FnMut() -> f64,
    mut subject: impl FnMut() -> f64,
) -> Rounds {
    floor();
    subject();
    let mut result = Rounds { floor: Vec::new(), subject: Vec::new() };
    for round in 0..rounds {
        if round % 2 == 0 {
            result.floor.push(floor());
            result.subject.push(subject());
        } else {
            result.subject.push(subject());
            result.floor.push(floor());
        }
    }
    result
}

/// Nanoseconds since `started` for each of `operations`.
#[allow(clippy::cast_precision_loss, reason = "a round has far fewer than 2^52 operations")]
pub(crate) fn nanos_each(started: Instant, operations: usize) -> f64 {
    nanos(started.elapsed()) / operations as f64
}

pub(crate) fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_both_ends() {
        let spread = Spread::of(vec![5.0, 1.0, 9.0, 2.0, 3.0]);
        assert_eq!(
            [spread.least, spread.median, spread.greatest].map(f64::to_bits),
            [1.0, 3.0, 9.0].map(f64::to_bits)
        );
    }

    #[test]
    fn sides_take_turns_at_going_first_and_warm_up_uncounted() {
        let order = std::cell::RefCell::new(String::new());
        let side = |name| {
            let order = &order;
            move || {
                order.borrow_mut().push(name);
                1.0
            }
        };
        let rounds = alternate(3, side('f'), side('s'));
        assert_eq!(*order.borrow(), "fsfssffs");
        assert_eq!((rounds.floor.len(), rounds.subject.len()), (3, 3));
    }

    #[test]
    fn differences_and_ratios_are_taken_within_a_round() {
        let rounds = Rounds { floor: vec![10.0, 100.0, 20.0], subject: vec![15.0, 105.0, 40.0] };
        assert!((rounds.difference().median - 5.0).abs() < 1e-9);
        assert!((rounds.ratio().median - 1.5).abs() < 1e-9);
        assert!((rounds.speed().median - 1.0 / 1.5).abs() < 1e-9);
    }
}
