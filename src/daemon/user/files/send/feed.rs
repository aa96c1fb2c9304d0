//! A content on its way out: summed as it is read, and sent as far as the server does not have it.

use crate::daemon::client::sender::{Sender, Stop};
use crate::delta::{ContentHasher, DeltaEncoder, Instruction, Recipe};
use crate::model::Digest;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

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
    Against(Box<DeltaEncoder>),
}

impl<'a> Feed<'a> {
    /// Reads into an upload: plain, with its digest where the server does not tell it, or against what the server has.
    pub(super) fn new(sender: Sender<'a>, old: Option<Arc<Recipe>>, told: bool) -> Self {
        Self {
            sum: Sha256::new(),
            size: 0,
            sender,
            how: match old {
                Some(recipe) => How::Against(Box::new(DeltaEncoder::against(recipe))),
                None => How::Plain((!told).then(Box::default)),
            },
        }
    }

    /// The next bytes.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), Stop> {
        self.sum.update(piece);
        self.size += piece.len() as u64;
        let sender = &mut self.sender;
        match &mut self.how {
            How::Plain(hasher) => {
                if let Some(hasher) = hasher {
                    hasher.update(piece);
                }
                sender.instruction(&Instruction::Literal(piece))
            }
            How::Against(encoder) => {
                let mut sent = Ok(());
                encoder.push(piece, &mut |instruction| {
                    if sent.is_ok() {
                        sent = sender.instruction(&instruction);
                    }
                });
                sent
            }
        }
    }

    /// The last have come.
    pub(super) fn finish(mut self) -> Result<Content, Stop> {
        let sender = &mut self.sender;
        let digest = match self.how {
            How::Plain(hasher) => hasher.map(|hasher| hasher.finish().1),
            How::Against(encoder) => {
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
