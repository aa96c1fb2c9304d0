//! Frames: `u32 header length | u32 body length | header | body`, little-endian, both lengths bounded.

use bytes::{Buf, Bytes, BytesMut};

/// A frame as it came off the line: JSON text and raw bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The JSON header.
    pub header: Bytes,
    /// The raw body.
    pub body: Bytes,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced header is empty or over the limit.
    #[error("a header of {announced} bytes was announced, 1 to {limit} are allowed")]
    Header {
        /// What the peer announced, in bytes.
        announced: u32,
        /// The limit, in bytes.
        limit: u32,
    },
    /// The announced body is over the limit.
    #[error("a body of {announced} bytes was announced, at most {limit} are allowed")]
    Body {
        /// What the peer announced, in bytes.
        announced: u32,
        /// The limit, in bytes.
        limit: u32,
    },
}

/// Cuts a stream of bytes into frames. Memory: what was fed and not taken out; lengths are checked before anything
/// is reserved, and never more than one frame is reserved for.
#[derive(Debug)]
pub struct Deframer {
    max_header: u32,
    max_body: u32,
}

impl Deframer {
    /// A deframer with its limits, in bytes.
    #[must_use]
    pub fn new(max_header: u32, max_body: u32) -> Self {
        Self {
            max_header,
            max_body,
        }
    }

    /// How many bytes the frame still lacks that `buffer` begins with, once [`Deframer::next`] found none in it: what is
    /// to be reserved, so that a long frame does not grow in steps that leave half of it unused.
    #[must_use]
    pub fn lacks(&self, buffer: &BytesMut) -> usize {
        let Some((mut lengths, rest)) = buffer.split_at_checked(PREFIX) else {
            return PREFIX - buffer.len();
        };
        let header = lengths.get_u32_le().min(self.max_header);
        let body = lengths.get_u32_le().min(self.max_body);
        (header as usize + body as usize).saturating_sub(rest.len())
    }

    /// Takes the next whole frame from the front of `buffer`, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When an announced length is over its limit; the connection cannot go on.
    pub fn next(&self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some((mut lengths, _)) = buffer.split_at_checked(PREFIX) else {
            return Ok(None);
        };
        let (header, body) = (lengths.get_u32_le(), lengths.get_u32_le());
        if header == 0 || header > self.max_header {
            return Err(FrameError::Header {
                announced: header,
                limit: self.max_header,
            });
        }
        if body > self.max_body {
            return Err(FrameError::Body {
                announced: body,
                limit: self.max_body,
            });
        }
        let total = PREFIX + header as usize + body as usize;
        if buffer.len() < total {
            return Ok(None);
        }
        let mut frame = buffer.split_to(total).freeze();
        frame.advance(PREFIX);
        let header = frame.split_to(header as usize);
        Ok(Some(Frame {
            header,
            body: frame,
        }))
    }
}

/// Bytes of the two lengths that a frame begins with.
pub const PREFIX: usize = 8;

/// Appends a frame to `out`, but for its body. Lengths over `u32` cannot occur: every writer is bounded far below.
pub fn prefix(header: &[u8], body: &[u8], out: &mut Vec<u8>) {
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&length(header));
    out.extend_from_slice(&length(body));
    out.extend_from_slice(header);
}

/// Appends a frame to `out`.
pub fn encode(header: &[u8], body: &[u8], out: &mut Vec<u8>) {
    prefix(header, body, out);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::{Deframer, FrameError, encode};
    use bytes::BytesMut;

    #[test]
    fn a_frame_cut_anywhere_comes_out_whole() {
        let mut bytes = Vec::new();
        encode(b"{}", b"body", &mut bytes);
        for cut in 0..=bytes.len() {
            let deframer = Deframer::new(10, 10);
            let mut buffer = BytesMut::from(&bytes[..cut]);
            let early = deframer.next(&mut buffer).unwrap();
            assert_eq!(early.is_some(), cut == bytes.len());
            if early.is_none() {
                let known = if cut < 8 { 8 } else { bytes.len() };
                assert_eq!(deframer.lacks(&buffer), known - cut);
            }
            buffer.extend_from_slice(&bytes[cut..]);
            let frame = early
                .or_else(|| deframer.next(&mut buffer).unwrap())
                .unwrap();
            assert_eq!(
                (&frame.header[..], &frame.body[..]),
                (&b"{}"[..], &b"body"[..])
            );
        }
    }

    #[test]
    fn announced_lengths_are_checked_before_any_byte_is_kept() {
        let deframer = Deframer::new(10, 20);
        for (header, body) in [(0u32, 0u32), (11, 0), (u32::MAX, 0), (5, 21), (5, u32::MAX)] {
            let mut buffer = BytesMut::new();
            buffer.extend_from_slice(&header.to_le_bytes());
            buffer.extend_from_slice(&body.to_le_bytes());
            let error = deframer.next(&mut buffer).unwrap_err();
            assert_eq!(
                matches!(error, FrameError::Body { .. }),
                header == 5,
                "{error}"
            );
        }
    }
}
