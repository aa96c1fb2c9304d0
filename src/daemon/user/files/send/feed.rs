//! A content on its way out: summed as it is read, and sent as far as the server does not have it.

use crate::daemon::client::sender::{Sender, Stop};
use crate::daemon::user::files::FileError;
use crate::delta::{ContentHasher, DeltaEncoder, Recipe};
use crate::model::Digest;
use crate::model::limits::MAX_PIECE;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Appends the next bytes of a content: at most so many, none at its end. How many.
pub(super) type Next<'a> = dyn FnMut(&mut Vec<u8>, usize) -> Result<usize, FileError> + 'a;

/// What is known of a content when all of it was read.
#[derive(Debug)]
pub(super) struct Content {
    /// Its length in bytes.
    pub(super) size: u64,
    /// Its content digest, where the server does not tell it.
    pub(super) digest: Option<Digest>,
    /// Its SHA-256.
    pub(super) sum: [u8; 32],
    /// Bytes of pieces that went over the line.
    pub(super) moved: u64,
}

/// Sums of what is read, and what goes out of it.
pub(super) struct Feed<'a> {
    sum: Sha256,
    size: u64,
    sender: Sender<'a>,
    how: How,
}

enum How {
    Plain(Option<Box<ContentHasher>>),
    /// With what was read last.
    Against(Box<DeltaEncoder>, Vec<u8>),
}

impl<'a> Feed<'a> {
    /// Reads into an upload: plain, with its digest where the server does not tell it, or against what the server has.
    pub(super) fn new(sender: Sender<'a>, old: Option<Arc<Recipe>>, told: bool) -> Self {
        Self {
            sum: Sha256::new(),
            size: 0,
            sender,
            how: match old {
                Some(recipe) => How::Against(Box::new(DeltaEncoder::against(recipe)), Vec::new()),
                None => How::Plain((!told).then(Box::default)),
            },
        }
    }

    /// Takes the next bytes. How many.
    pub(super) fn pull(&mut self, next: &mut Next<'_>) -> Result<Result<usize, FileError>, Stop> {
        let (sum, size, sender) = (&mut self.sum, &mut self.size, &mut self.sender);
        let mut read = |to: &mut Vec<u8>, most| {
            let before = to.len();
            let count = next(to, most)?;
            sum.update(to.get(before..).unwrap_or_default());
            *size += count as u64;
            Ok(count)
        };
        match &mut self.how {
            // Straight into the message.
            How::Plain(hasher) => sender.literal(|to, most| {
                let before = to.len();
                let count = read(to, most)?;
                if let Some(hasher) = hasher {
                    hasher.update(to.get(before..).unwrap_or_default());
                }
                Ok(count)
            }),
            How::Against(encoder, buffer) => {
                buffer.clear();
                let count = match read(buffer, MAX_PIECE) {
                    Ok(count) => count,
                    Err(error) => return Ok(Err(error)),
                };
                let mut sent = Ok(());
                encoder.push(buffer, &mut |instruction| {
                    if sent.is_ok() {
                        sent = sender.instruction(&instruction);
                    }
                });
                sent.map(|()| Ok(count))
            }
        }
    }

    /// The last have come.
    pub(super) fn finish(mut self) -> Result<Content, Stop> {
        let sender = &mut self.sender;
        let digest = match self.how {
            How::Plain(hasher) => hasher.map(|hasher| hasher.finish().1),
            How::Against(encoder, _) => {
                let mut sent = Ok(());
                let encoded = encoder.finish(&mut |instruction| {
                    if sent.is_ok() {
                        sent = sender.instruction(&instruction);
                    }
                });
                sent?;
                Some(encoded.digest)
            }
        };
        sender.flush()?;
        Ok(Content {
            size: self.size,
            digest,
            sum: self.sum.finalize().into(),
            moved: sender.sent(),
        })
    }
}
