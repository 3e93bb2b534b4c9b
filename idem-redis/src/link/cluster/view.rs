//! [`View`]: the answer of one node to `CLUSTER SLOTS`.

use redis::{ErrorKind, RedisResult, Value};

use super::slots::SLOTS;
use crate::address::Endpoint;

/// A run of slots and the master that serves them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) master: Endpoint,
}

/// What one node knows of the Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Sorted.
    pub(super) ranges: Vec<Range>,
    /// Further nodes to ask. Not compared between nodes, because replicas come and go.
    pub(super) replicas: Vec<Endpoint>,
}

impl View {
    /// Reads the answer to `CLUSTER SLOTS` of the node at `asked`.
    pub(super) fn read(answer: Value, asked: &Endpoint) -> RedisResult<Self> {
        let unreadable =
            || (ErrorKind::UnexpectedReturnType, "a node's answer to CLUSTER SLOTS cannot be read");
        let Value::Array(runs) = answer.extract_error()? else { return Err(unreadable().into()) };
        let mut view = Self { ranges: Vec::new(), replicas: Vec::new() };
        for run in runs {
            let Value::Array(run) = run else { return Err(unreadable().into()) };
            let mut run = run.into_iter();
            let (Some(Value::Int(first)), Some(Value::Int(last))) = (run.next(), run.next()) else {
                return Err(unreadable().into());
            };
            let mut nodes = run.filter_map(|node| endpoint(&node, asked));
            let (Ok(first), Ok(last), Some(master)) =
                (u16::try_from(first), u16::try_from(last), nodes.next())
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
}

/// Reads a node: its host (nothing or `?` means the one of the node that was asked) and its port.
fn endpoint(node: &Value, asked: &Endpoint) -> Option<Endpoint> {
    let Value::Array(node) = node else { return None };
    let host = match node.first()? {
        Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
        Value::SimpleString(host) => host.clone(),
        Value::Nil => String::new(),
        _ => return None,
    };
    let Value::Int(port) = node.get(1)? else { return None };
    Endpoint::from_server(&format!("{host}:{port}"), asked.host())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test an unwrap is an assertion, in its helpers too")]

    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn a_view_is_read_with_hosts_that_are_left_out() {
        let answer = b"*2\r\n*4\r\n:8192\r\n:16383\r\n*3\r\n$1\r\nb\r\n:2\r\n$1\r\ni\r\n*3\r\n$1\r\nc\r\n:3\r\n$1\r\nj\r\n\
            *3\r\n:0\r\n:8191\r\n*4\r\n$0\r\n\r\n:1\r\n$1\r\nh\r\n*0\r\n";
        let view = View::read(redis::parse_redis_value(answer).unwrap(), &tcp("asked", 9)).unwrap();
        let expected = vec![
            Range { first: 0, last: 8191, master: tcp("asked", 1) },
            Range { first: 8192, last: 16_383, master: tcp("b", 2) },
        ];
        assert_eq!((view.ranges, view.replicas), (expected, vec![tcp("c", 3)]));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for answer in [&b"+OK\r\n"[..], b"*1\r\n:1\r\n", b"*1\r\n*2\r\n:0\r\n:1\r\n", b"-ERR no\r\n"] {
            assert!(
                View::read(redis::parse_redis_value(answer).unwrap(), &tcp("h", 1)).is_err(),
                "{answer:?}"
            );
        }
    }
}
