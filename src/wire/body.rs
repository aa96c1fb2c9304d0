//! Packed values in a body: fixed little-endian numbers and counted bytes; leftovers are refused.

use crate::model::Digest;

/// Why a body is not what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Fewer bytes than announced.
    #[error("the body ends {missing} bytes early")]
    Short {
        /// How many bytes are missing.
        missing: usize,
    },
    /// More bytes than announced.
    #[error("the body has {left} bytes too many")]
    Leftover {
        /// How many bytes are left.
        left: usize,
    },
}

/// Reads a body from front to back.
#[derive(Debug)]
pub struct BodyReader<'a>(&'a [u8]);

impl<'a> BodyReader<'a> {
    /// Starts at the front.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], BodyError> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(BodyError::Short {
            missing: count.saturating_sub(self.0.len()),
        })?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BodyError> {
        let mut out = [0u8; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self) -> Result<u8, BodyError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u32(&mut self) -> Result<u32, BodyError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u64(&mut self) -> Result<u64, BodyError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// 32 bytes of a digest or sum.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn digest(&mut self) -> Result<Digest, BodyError> {
        Ok(Digest(self.array()?))
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When bytes are left over.
    pub fn finish(self) -> Result<(), BodyError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(BodyError::Leftover { left: self.0.len() })
        }
    }
}

/// Writes a body.
#[derive(Debug, Default)]
pub struct BodyWriter(Vec<u8>);

impl BodyWriter {
    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    /// Appends four bytes, little-endian.
    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Appends eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// How long it is, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}
