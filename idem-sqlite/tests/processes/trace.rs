//! The trace that `disk.c` writes: what happened to the files of a directory, in order.
//!
//! An event is a byte for its kind, the length of the file's name, the name, a number, the length of the data, and the
//! data. All numbers are little-endian.

use std::path::Path;

/// One event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) file: String,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Write {
        offset: usize,
        data: Vec<u8>,
    },
    Truncate {
        length: usize,
    },
    Unlink,
    /// A line was appended. The process writes here which operations were acknowledged.
    Append {
        line: String,
    },
    SyncBegins {
        number: u64,
    },
    SyncEnds {
        number: u64,
    },
}

/// Reads a trace.
pub(crate) fn read(path: &Path) -> Vec<Event> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let kind = take(&mut rest, 1)[0];
        let length = take_length(&mut rest);
        let file = String::from_utf8(take(&mut rest, length).to_vec()).unwrap();
        let number = u64::from_le_bytes(take(&mut rest, 8).try_into().unwrap());
        let length = take_length(&mut rest);
        let data = take(&mut rest, length).to_vec();
        let what = match kind {
            b'W' => What::Write { offset: usize::try_from(number).unwrap(), data },
            b'T' => What::Truncate { length: usize::try_from(number).unwrap() },
            b'U' => What::Unlink,
            b'A' => What::Append { line: String::from_utf8(data).unwrap() },
            b'B' => What::SyncBegins { number },
            b'E' => What::SyncEnds { number },
            other => panic!("an unknown event: {other}"),
        };
        events.push(Event { file, what });
    }
    events
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(length);
    *rest = left;
    taken
}

fn take_length(rest: &mut &[u8]) -> usize {
    u32::from_le_bytes(take(rest, 4).try_into().unwrap()) as usize
}
