//! Which slot a key is in.

use redis::Cmd;

/// How many slots a Cluster has.
pub(super) const SLOTS: usize = 16_384;

/// The slot of a key: that of the text in its first braces, unless it is empty.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|end| *end > 0).map(|end| &rest[..end])
    });
    crc16(tag.unwrap_or(key)) % 16_384
}

/// The slot of a command's key. `EVAL` and `EVALSHA` have it after the count of keys, other commands first.
pub(super) fn slot_of(command: &Cmd) -> Option<u16> {
    let mut arguments = command.args_iter().filter_map(|argument| match argument {
        redis::Arg::Simple(bytes) => Some(bytes),
        _ => None,
    });
    let name = arguments.next()?;
    let is_script = [&b"EVAL"[..], b"EVALSHA"].contains(&name);
    arguments.nth(if is_script { 2 } else { 0 }).map(slot)
}

/// CRC-16/XMODEM, as Redis Cluster specifies.
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

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        for (key, expected) in
            [(&b"foo"[..], 12_182), (b"{foo}.x", 12_182), (b"a{foo}b{bar}", 12_182), (b"", 0)]
        {
            assert_eq!(slot(key), expected, "{key:?}");
        }
        // Empty and unclosed braces do not count.
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
}
