//! [`Task`]: what a child process does, given to it in its environment.

use std::time::Duration;

/// What a child does before it prints a word and waits to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Opens the store: "opened".
    Open,
    /// Reserves the cases' usual key: "reserved" or "in flight".
    Reserve { lease: Duration },
    /// Reserves it and completes with [`Task::ANSWER`]: "completed".
    Complete,
    /// Carries out the calls that it reads from its standard input.
    Serve,
}

impl Task {
    /// The answer of a killed process.
    pub(crate) const ANSWER: &str = "an answer from a process that was killed";

    pub(super) fn to_word(self) -> String {
        match self {
            Self::Open => "open".to_owned(),
            Self::Reserve { lease } => format!("reserve {}", lease.as_micros()),
            Self::Complete => "complete".to_owned(),
            Self::Serve => "serve".to_owned(),
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        match word.split_once(' ') {
            Some(("reserve", micros)) => {
                Some(Self::Reserve { lease: Duration::from_micros(micros.parse().ok()?) })
            }
            None if word == "open" => Some(Self::Open),
            None if word == "complete" => Some(Self::Complete),
            None if word == "serve" => Some(Self::Serve),
            _ => None,
        }
    }
}
