//! One upload on its way out: instructions gathered into pieces, sent by the bulk queue within the session's window.

use super::mirror::Link;
use crate::daemon::packing::Transfer;
use crate::daemon::pump::Outgoing;
use crate::delta::Instruction;
use crate::engine::client::ReadOutcome;
use crate::model::RelPath;
use crate::model::limits::{MAX_PIECE, MAX_PIECE_BODY};
use crate::wire::{Request, WirePath};
use std::sync::PoisonError;
use tokio::runtime::Handle;

/// Why a reading stopped, with what the engine is told; nothing when the session is gone and nobody listens.
pub(super) enum Stop {
    Outcome(ReadOutcome),
    Silent,
}

/// Gathers instructions into pieces and sends them within the window.
pub(super) struct Sender<'a> {
    link: &'a Link,
    upload: u64,
    body: Vec<u8>,
    runtime: &'a Handle,
    transfer: Transfer,
    /// How long the piece that is gathered may become, but for what an instruction adds, in bytes.
    limit: usize,
}

impl<'a> Sender<'a> {
    /// Begins an upload, by differences from the server's version at `base` if there is one.
    pub(super) fn open(
        link: &'a Link,
        runtime: &'a Handle,
        upload: u64,
        base: Option<&RelPath>,
    ) -> Result<Self, Stop> {
        let base = base.map(WirePath::from);
        let mut sender = Self {
            link,
            upload,
            body: Vec::new(),
            runtime,
            transfer: Transfer::default(),
            limit: MAX_PIECE,
        };
        sender.send(&Request::UploadOpen { upload, base }, Vec::new())?;
        sender.limit = sender.piece();
        Ok(sender)
    }

    /// Gives the upload up: by the queue that it went by, so that this does not overtake it.
    pub(super) fn abort(&self) -> Result<(), Stop> {
        let upload = self.upload;
        self.send(&Request::UploadAbort { upload }, Vec::new())
    }

    /// One more instruction.
    pub(super) fn instruction(&mut self, instruction: &Instruction<'_>) -> Result<(), Stop> {
        let Instruction::Literal(mut bytes) = *instruction else {
            return self.gather(instruction);
        };
        while !bytes.is_empty() {
            if self.body.len() + bytes.len() > self.limit {
                self.flush()?;
            }
            let (front, rest) = bytes.split_at(bytes.len().min(self.limit));
            self.gather(&Instruction::Literal(front))?;
            bytes = rest;
        }
        Ok(())
    }

    fn gather(&mut self, instruction: &Instruction<'_>) -> Result<(), Stop> {
        instruction.pack(&mut self.body);
        if self.body.len() >= self.limit {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Sends what was gathered.
    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        if self.body.is_empty() {
            return Ok(());
        }
        let plain = std::mem::take(&mut self.body);
        let packed = self.transfer.pack(&self.link.line, &plain, MAX_PIECE_BODY);
        let (body, zstd) = match packed {
            Some((packed, size)) => (packed, Some(size)),
            None => (plain, None),
        };
        let permits = u32::try_from(body.len()).unwrap_or(u32::MAX);
        // Given back by the server's `received`.
        let permit = self
            .runtime
            .block_on(self.link.window.acquire_many(permits));
        permit.map_err(|_| Stop::Silent)?.forget();
        let upload = self.upload;
        self.send(&Request::UploadData { upload, zstd }, body)?;
        self.limit = self.piece();
        Ok(())
    }

    fn piece(&self) -> usize {
        let line = self.link.line.lock();
        self.transfer
            .piece(&line.unwrap_or_else(PoisonError::into_inner))
    }

    fn send(&self, request: &Request, body: Vec<u8>) -> Result<(), Stop> {
        self.link
            .outbox
            .bulk
            .blocking_send(Outgoing::new(request, body))
            .map_err(|_| Stop::Silent)
    }
}
