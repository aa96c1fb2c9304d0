//! A large file that comes in pieces: packed instructions are carried out as they arrive, and digested on the way.

use crate::delta::{ContentHasher, Instruction, InstructionError, unpack};
use crate::engine::ports::{StoreError, Upload};
use crate::model::{Digest, Fault};
use sha2::{Digest as _, Sha256};

/// Longest content that may be built, in bytes: far over any disk, far below an overflow. A few bytes of copies could
/// otherwise ask for any amount of work.
const MAX_CONTENT: u64 = 1 << 43;

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The instructions are malformed; the session cannot go on.
    #[error("a piece of an upload is malformed")]
    Malformed(#[from] InstructionError),
    /// The upload failed; others go on.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An upload in progress.
#[derive(Debug)]
pub struct Growing<U> {
    upload: U,
    hasher: ContentHasher,
    size: u64,
    /// Of what was stored, as far as it was read again.
    sum: Option<(Sha256, u64)>,
}

/// An upload all of which has come, and is right.
#[derive(Debug)]
pub struct Closed<U> {
    /// It.
    pub upload: U,
    /// The digest of its content.
    pub digest: Digest,
    /// The SHA-256 of what is stored, if that was wanted.
    pub sum: Option<[u8; 32]>,
}

impl<U: Upload> Growing<U> {
    /// An upload of which nothing has come.
    #[must_use]
    pub fn new(upload: U) -> Self {
        Self {
            upload,
            hasher: ContentHasher::new(),
            size: 0,
            sum: None,
        }
    }

    /// The same, with the SHA-256 of what is stored: it is read again as it comes.
    #[must_use]
    pub fn summed(self) -> Self {
        Self {
            sum: Some((Sha256::new(), self.size)),
            ..self
        }
    }

    /// Bytes of content so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Carries out the instructions of a piece.
    ///
    /// # Errors
    /// When they are malformed, ask for more than a file may have, or the store fails.
    pub fn piece(&mut self, body: &[u8]) -> Result<(), UploadError> {
        for instruction in unpack(body) {
            let instruction = instruction?;
            let size = self.size.saturating_add(instruction.length());
            if size > MAX_CONTENT {
                let message = format!("an upload may have {MAX_CONTENT} bytes at most");
                return Err(StoreError::new(Fault::Unrepresentable, message).into());
            }
            match instruction {
                Instruction::Literal(bytes) => {
                    self.upload.write(bytes)?;
                    self.hasher.update(bytes);
                }
                Instruction::Copy { offset, length } => {
                    let hasher = &mut self.hasher;
                    let mut sink = |bytes: &[u8]| hasher.update(bytes);
                    self.upload.copy(offset, length, &mut sink)?;
                }
            }
            self.size = size;
        }
        if let Some((sum, done)) = &mut self.sum {
            let more = self.size - *done;
            let mut sink = |bytes: &[u8]| sum.update(bytes);
            self.upload.read_back(*done, more, &mut sink)?;
            *done = self.size;
        }
        Ok(())
    }

    /// Work that makes what came so far durable, for another thread.
    pub fn flusher(&self) -> Box<dyn FnOnce() + Send> {
        self.upload.flusher()
    }

    /// Leaves all that came so far to the thread that writes it, if there is one, which is to finish it, too. Whether there is.
    pub fn write_behind(&mut self) -> bool {
        self.upload.write_behind()
    }

    /// Removes what came of it: it is of no use to a later upload either.
    pub fn discard(self) {
        self.upload.discard();
    }

    /// Ends it: the content must be what was announced, by its digest, its SHA-256, or both.
    ///
    /// # Errors
    /// When it is not.
    pub fn close(
        self,
        size: u64,
        announced: (Option<Digest>, Option<[u8; 32]>),
    ) -> Result<Closed<U>, StoreError> {
        let sum: Option<[u8; 32]> = self.sum.map(|(sum, _)| sum.finalize().into());
        let (length, digest) = self.hasher.finish();
        let (named, of_stored) = announced;
        let same = (named.is_some() || of_stored.is_some())
            && named.is_none_or(|named| named == digest)
            && (of_stored.is_none() || of_stored == sum);
        if same && length == size {
            Ok(Closed {
                upload: self.upload,
                digest,
                sum,
            })
        } else {
            // Nobody knows which of its bytes are wrong.
            self.upload.discard();
            Err(StoreError::changed(
                "the upload does not have the announced digest",
            ))
        }
    }
}
