//! Which slot a key is in, and which node serves a slot.

use redis::{Cmd, ErrorKind, RedisResult, Value};

use crate::address::Place;

/// How many slots a Cluster has.
pub(super) const SLOTS: usize = 16_384;

/// A run of slots and the master that serves them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) master: Place,
}

/// What one node says of the Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// In order.
    pub(super) ranges: Vec<Range>,
    /// Who else may be asked. Not compared between nodes, since replicas come and go.
    pub(super) replicas: Vec<Place>,
}

/// The slot of a key: of what stands in its first braces, if that is not empty.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|end| *end > 0).map(|end| &rest[..end])
    });
    crc16(tag.unwrap_or(key)) % 16_384
}

/// The slot of the one key of a command. `EVAL` and `EVALSHA` have it after the count of keys, all others first.
pub(super) fn slot_of(command: &Cmd) -> Option<u16> {
    let mut arguments = command.args_iter().filter_map(|argument| match argument {
        redis::Arg::Simple(bytes) => Some(bytes),
        _ => None,
    });
    let name = arguments.next()?;
    let is_script = [&b"EVAL"[..], b"EVALSHA"].contains(&name);
    arguments.nth(if is_script { 2 } else { 0 }).map(slot)
}

/// Reads the answer to `CLUSTER SLOTS`.
pub(super) fn view(told: Value, asked: &Place) -> RedisResult<View> {
    let unreadable = || (ErrorKind::UnexpectedReturnType, "what a node says of the slots cannot be read");
    let Value::Array(runs) = told.extract_error()? else { return Err(unreadable().into()) };
    let mut view = View { ranges: Vec::new(), replicas: Vec::new() };
    for run in runs {
        let Value::Array(run) = run else { return Err(unreadable().into()) };
        let mut run = run.into_iter();
        let (Some(Value::Int(first)), Some(Value::Int(last))) = (run.next(), run.next()) else {
            return Err(unreadable().into());
        };
        let mut nodes = run.filter_map(|node| place(&node, asked));
        let (Ok(first), Ok(last), Some(master)) = (u16::try_from(first), u16::try_from(last), nodes.next())
        else {
            return Err(unreadable().into());
        };
        if usize::from(last) >= SLOTS || first > last {
            return Err(unreadable().into());
        }
        view.ranges.push(Range { first, last, master });
        view.replicas.extend(nodes);
    }
    view.ranges.sort();
    view.replicas.sort();
    view.replicas.dedup();
    Ok(view)
}

/// A node: its host (nothing, or `?`, is the one that was asked) and its port.
fn place(node: &Value, asked: &Place) -> Option<Place> {
    let Value::Array(node) = node else { return None };
    let host = match node.first()? {
        Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
        Value::SimpleString(host) => host.clone(),
        Value::Nil => String::new(),
        _ => return None,
    };
    let Value::Int(port) = node.get(1)? else { return None };
    Place::told(&format!("{host}:{port}"), asked.host())
}

/// CRC-16/XMODEM, which is what Redis Cluster specifies.
fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = table();
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from(crc.to_be_bytes()[0] ^ byte)])
}

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, expected) in
            [(&b"foo"[..], 12_182), (b"{foo}.x", 12_182), (b"a{foo}b{bar}", 12_182), (b"", 0)]
        {
            assert_eq!(slot(key), expected, "{key:?}");
        }
        // Empty and unclosed braces are no tag.
        assert_eq!(slot(b"{}foo"), crc16(b"{}foo") % 16_384);
        assert_eq!(slot(b"{foo"), crc16(b"{foo") % 16_384);
    }

    #[test]
    fn the_key_of_a_script_stands_behind_its_count() {
        let mut get = redis::cmd("GET");
        get.arg("foo");
        let mut script = redis::cmd("EVALSHA");
        script.arg("0123").arg(1).arg("foo").arg("argument");
        assert_eq!((slot_of(&get), slot_of(&script)), (Some(12_182), Some(12_182)));
        assert_eq!(slot_of(&redis::cmd("PING")), None);
    }

    #[test]
    fn a_view_is_read_with_hosts_that_are_left_out() {
        let told = b"*2\r\n*4\r\n:8192\r\n:16383\r\n*3\r\n$1\r\nb\r\n:2\r\n$1\r\ni\r\n*3\r\n$1\r\nc\r\n:3\r\n$1\r\nj\r\n\
            *3\r\n:0\r\n:8191\r\n*4\r\n$0\r\n\r\n:1\r\n$1\r\nh\r\n*0\r\n";
        let view = view(redis::parse_redis_value(told).unwrap(), &tcp("asked", 9)).unwrap();
        let expected = vec![
            Range { first: 0, last: 8191, master: tcp("asked", 1) },
            Range { first: 8192, last: 16_383, master: tcp("b", 2) },
        ];
        assert_eq!((view.ranges, view.replicas), (expected, vec![tcp("c", 3)]));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for told in [&b"+OK\r\n"[..], b"*1\r\n:1\r\n", b"*1\r\n*2\r\n:0\r\n:1\r\n", b"-ERR no\r\n"] {
            assert!(view(redis::parse_redis_value(told).unwrap(), &tcp("h", 1)).is_err(), "{told:?}");
        }
    }
}
