//! Frames: values with their length before them, over a pipe between two runs of this program.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads the next value, or the end of the pipe.
pub(super) fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    input.read_exact(&mut frame)?;
    Ok(postcard::from_bytes(&frame).expect("both processes run the same program"))
}

/// Writes a value.
pub(super) fn write(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let frame = postcard::to_stdvec(value).expect("plain data can be written");
    let length = u32::try_from(frame.len()).expect("no case has answers of gigabytes");
    output.write_all(&[&length.to_le_bytes(), &*frame].concat())?;
    output.flush()
}
