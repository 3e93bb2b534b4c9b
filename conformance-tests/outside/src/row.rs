//! [`Row`]: the content of a file.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use idem_core::store::{RecordView, StateView};
use idem_core::{Answer, FencingToken, Fingerprint, Format, StoredValue};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// Times are in microseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) owner: [u8; 16],
    pub(crate) fence: FencingToken,
    pub(crate) attempt: u32,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) expires_at: u64,
    pub(crate) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    InFlight { lease_until: u64, lease: u64, record_ttl: u64, abandoned: bool },
    Completed { answer: StoredAnswer, at: u64 },
    Released,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredAnswer {
    #[serde(rename = "Response")] // its name in rows of the first version
    Value { format: Format, body: Vec<u8> },
    NotKept,
}

/// Why a row cannot be read.
pub(crate) enum Unreadable {
    Io(io::Error),
    /// A later release wrote it.
    Later,
    Corrupt(serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    row: T,
}

impl Row {
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Unreadable> {
        let json = match fs::read(path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Unreadable::Io(error)),
        };
        // The version comes first, because a later version may look different.
        let Versioned { version, row }: Versioned<serde_json::Value> =
            serde_json::from_slice(&json).map_err(Unreadable::Corrupt)?;
        if version > VERSION {
            return Err(Unreadable::Later);
        }
        serde_json::from_value(row).map(Some).map_err(Unreadable::Corrupt)
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&Versioned { version: VERSION, row: self }).expect("JSON can hold every row")
    }

    pub(crate) fn view(&self, now: u64) -> Option<RecordView> {
        let until = |instant: u64| Duration::from_micros(instant.saturating_sub(now));
        let state = match &self.state {
            _ if now >= self.expires_at => return None,
            State::InFlight { lease_until, abandoned, .. } => {
                StateView::InFlight { lease_left: until(*lease_until), abandoned: *abandoned }
            }
            State::Completed { answer, at } => StateView::Completed {
                answer: answer.clone().into(),
                age: Duration::from_micros(now.saturating_sub(*at)),
            },
            State::Released => return None,
        };
        let fingerprint = Fingerprint::from_bytes(self.fingerprint);
        Some(RecordView::new(self.fence, self.attempt, fingerprint, state, until(self.expires_at)))
    }
}

impl From<&Answer> for StoredAnswer {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Value(value) => Self::Value { format: value.format, body: value.body.to_vec() },
            Answer::NotKept => Self::NotKept,
        }
    }
}

impl From<StoredAnswer> for Answer {
    fn from(answered: StoredAnswer) -> Self {
        match answered {
            StoredAnswer::Value { format, body } => Self::Value(StoredValue { format, body: body.into() }),
            StoredAnswer::NotKept => Self::NotKept,
        }
    }
}
