//! WebSocket frames (RFC 6455) as a client needs them: reading what a server sends without copying it, and writing text.
//! Frames from a client must be masked; the mask is 0, which leaves the text as it is and costs the server what any mask
//! costs. Extensions are never asked for, so none is read.

/// What one frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation,
    Data,
    Close,
    Ping,
    Pong,
}

/// A frame within the bytes read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: Opcode,
    pub(crate) last: bool,
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

/// No server sends this.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The frame at the beginning of the bytes; none while it is not there as a whole.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 | 2 => Opcode::Data,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(Malformed),
    };
    // A server masks nothing, and without extensions the other bits are 0.
    if second & 0x80 != 0 || first & 0x70 != 0 {
        return Err(Malformed);
    }
    let (head, len) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(&[a, b]) => (4, usize::from(u16::from_be_bytes([a, b]))),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|len| <[u8; 8]>::try_from(len).ok()) {
            Some(len) => {
                (10, usize::try_from(u64::from_be_bytes(len)).ok().filter(|len| *len < 1 << 32).ok_or(Malformed)?)
            }
            None => return Ok(None),
        },
        len => (2, usize::from(len)),
    };
    let end = head + len;
    Ok(bytes.get(head..end).map(|payload| Frame { opcode, last: first & 0x80 != 0, payload, len: end }))
}

/// Writes a text frame whose payload the closure writes.
pub(crate) fn write_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    write_frame(out, 1, write);
}

/// Writes the answer to a ping.
pub(crate) fn write_pong(out: &mut Vec<u8>, payload: &[u8]) {
    write_frame(out, 10, |out| out.extend_from_slice(payload));
}

fn write_frame(out: &mut Vec<u8>, opcode: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let from = out.len();
    // The longest head that a client's message needs; shorter ones are moved together below.
    out.extend_from_slice(&[0x80 | opcode, 0, 0, 0, 0, 0, 0, 0]);
    write(out);
    let len = out.len() - from - 8;
    match u16::try_from(len) {
        Ok(short) if short < 126 => {
            out[from + 1] = 0x80 | u8::try_from(short).unwrap_or(0);
            // Two bytes and the mask of four.
            out.copy_within(from + 8.., from + 6);
            out.truncate(from + 6 + len);
        }
        Ok(short) => {
            out[from + 1] = 0x80 | 126;
            out[from + 2..from + 4].copy_from_slice(&short.to_be_bytes());
        }
        Err(_) => {
            let tail = out.split_off(from + 8);
            out.truncate(from + 1);
            out.push(0x80 | 127);
            out.extend_from_slice(&u64::try_from(len).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server would send what a client wrote: without the mask.
    fn unmasked(frame: &[u8]) -> Vec<u8> {
        let head = match frame[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        assert_eq!(frame[1] & 0x80, 0x80, "a client masks");
        let mut out = frame[..head].to_vec();
        out[1] &= 0x7f;
        assert_eq!(frame[head..head + 4], [0; 4], "the mask");
        out.extend_from_slice(&frame[head + 4..]);
        out
    }

    #[test]
    fn what_is_written_is_read_at_every_length() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let mut out = b"before".to_vec();
            write_text(&mut out, |out| out.extend(std::iter::repeat_n(b'x', len)));
            let bytes = unmasked(&out[6..]);
            let frame = read(&bytes).expect("well formed").expect("whole");
            assert_eq!(
                (frame.opcode, frame.last, frame.payload.len(), frame.len),
                (Opcode::Data, true, len, bytes.len())
            );
            for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                assert_eq!(read(&bytes[..cut]), Ok(None), "{len} cut at {cut}");
            }
        }
    }

    #[test]
    fn masked_frames_and_extensions_are_refused() {
        assert_eq!(read(&[0x81, 0x80, 0, 0, 0, 0]), Err(Malformed));
        assert_eq!(read(&[0xc1, 0x00]), Err(Malformed));
        assert_eq!(read(&[0x83, 0x00]), Err(Malformed));
    }
}
