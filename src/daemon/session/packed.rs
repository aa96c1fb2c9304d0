//! Bodies that came packed, and changes, whose bodies may have.

use super::commit::Job;
use super::{Session, SessionError};
use crate::daemon::changes;
use crate::engine::server::decode;
use crate::model::limits::MAX_BODY;
use crate::wire::{MINOR_ZSTD, Op, unpack};
use bytes::Bytes;

impl Session {
    /// Changes, whose message has so many bytes when it is unpacked.
    pub(super) async fn mutate(
        &mut self,
        (id, based_on): (u64, u64),
        ops: &[Op],
        body: &Bytes,
        weight: u64,
    ) -> Result<(), SessionError> {
        changes::log(ops);
        let changes = decode(ops, body, self.guest.setid)?;
        self.flow.outstanding.add(weight);
        let job = Job::Mutate {
            id,
            based_on,
            changes,
            weight,
        };
        self.job(job).await
    }

    /// Whether what is said to be packed may be.
    pub(super) fn may_be_packed(&self, zstd: Option<u32>) -> Result<(), SessionError> {
        if zstd.is_some() && self.guest.minor < MINOR_ZSTD {
            let message = "nothing is packed in this session";
            return Err(SessionError::Protocol(message.to_owned()));
        }
        Ok(())
    }

    /// A body as it was before it was packed, if it was.
    pub(super) fn unpacked(&self, body: Bytes, zstd: Option<u32>) -> Result<Bytes, SessionError> {
        self.may_be_packed(zstd)?;
        let Some(size) = zstd else { return Ok(body) };
        let unpacked = unpack(&body, size, MAX_BODY as usize);
        let unpacked = unpacked.map_err(|error| SessionError::Protocol(error.to_string()))?;
        Ok(unpacked.into())
    }
}
