//! One upload on its way out: instructions gathered into pieces, sent by the bulk queue within the session's window.

use super::mirror::Link;
use crate::daemon::packing::Transfer;
use crate::daemon::pump::Outgoing;
use crate::delta::{Instruction, pack_literal};
use crate::engine::client::ReadOutcome;
use crate::model::RelPath;
use crate::model::limits::{MAX_PIECE, MAX_PIECE_BODY};
use crate::wire::{Continued, Request, WirePath};
use std::sync::PoisonError;
use tokio::runtime::Handle;

/// Bytes that one piece has the server copy at most.
const COPY: usize = 64 * 1024 * 1024;

/// Why a reading stopped, with what the engine is told; nothing when the session is gone and nobody listens.
pub(in crate::daemon) enum Stop {
    Outcome(ReadOutcome),
    Silent,
}

/// Gathers instructions into pieces and sends them within the window.
pub(in crate::daemon) struct Sender<'a> {
    link: &'a Link,
    upload: u64,
    /// The message that begins it, until something is sent.
    open: Option<Request>,
    body: Vec<u8>,
    runtime: &'a Handle,
    transfer: Transfer,
    /// Bytes of pieces that were sent, before packing.
    sent: u64,
    /// How long the piece that is gathered may become, but for what an instruction adds, in bytes.
    limit: usize,
}

impl<'a> Sender<'a> {
    /// An upload for a path, by differences from the server's version at `base` and from what it has left of another, if
    /// there are such. It begins with what is first sent of it.
    pub(in crate::daemon) fn new(
        link: &'a Link,
        runtime: &'a Handle,
        upload: u64,
        (base, path): (Option<&RelPath>, &RelPath),
        leftover: Option<Continued>,
    ) -> Self {
        let base = base.map(WirePath::from);
        let path = link.resumes.then(|| WirePath::from(path));
        let open = Request::UploadOpen {
            upload,
            base,
            path,
            leftover,
        };
        let mut sender = Self {
            link,
            upload,
            open: Some(open),
            body: Vec::new(),
            runtime,
            transfer: Transfer::default(),
            sent: 0,
            limit: MAX_PIECE,
        };
        sender.limit = sender.piece();
        sender
    }

    /// Begins the upload, if nothing did so far.
    pub(in crate::daemon) fn begin(&mut self) -> Result<(), Stop> {
        match self.open.take() {
            Some(open) => self.send(&open, Vec::new()),
            None => Ok(()),
        }
    }

    /// Whether anything was sent of it.
    pub(in crate::daemon) fn has_begun(&self) -> bool {
        self.open.is_none()
    }

    /// Sends that the content is the first `size` bytes of what it is made of.
    pub(in crate::daemon) fn all_of_it(&mut self, length: u64) -> Result<(), Stop> {
        self.instruction(&Instruction::Copy { offset: 0, length })?;
        self.flush()
    }

    /// Gives the upload up: by the queue that it went by, so that this does not overtake it.
    pub(in crate::daemon) fn abort(&self) -> Result<(), Stop> {
        if !self.has_begun() {
            return Ok(());
        }
        let upload = self.upload;
        self.send(&Request::UploadAbort { upload }, Vec::new())
    }

    /// Bytes of pieces so far, before packing.
    pub(in crate::daemon) fn sent(&self) -> u64 {
        self.sent + self.body.len() as u64
    }

    /// One more instruction. Long copies go in pieces: the server ends between two pieces when it has to, and other
    /// uploads have their turn.
    pub(in crate::daemon) fn instruction(
        &mut self,
        instruction: &Instruction<'_>,
    ) -> Result<(), Stop> {
        self.begin()?;
        if let Instruction::Copy { offset, length } = *instruction
            && length > COPY as u64
        {
            for done in (0..length).step_by(COPY) {
                self.instruction(&Instruction::Copy {
                    offset: offset + done,
                    length: (length - done).min(COPY as u64),
                })?;
                self.flush()?;
            }
            return Ok(());
        }
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

    /// One more literal, whose bytes `fill` appends: at most as many as it is told, none at the end. How many.
    pub(in crate::daemon) fn literal<E>(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>, usize) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, Stop> {
        self.begin()?;
        let (most, mut count) = (self.limit.saturating_sub(self.body.len()).max(1), 0);
        let filled = pack_literal(&mut self.body, |body| {
            count = fill(body, most)?;
            Ok(())
        });
        if self.body.len() >= self.limit {
            self.flush()?;
        }
        Ok(filled.map(|()| count))
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
    pub(in crate::daemon) fn flush(&mut self) -> Result<(), Stop> {
        if self.body.is_empty() {
            return Ok(());
        }
        let plain = std::mem::take(&mut self.body);
        self.sent += plain.len() as u64;
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
