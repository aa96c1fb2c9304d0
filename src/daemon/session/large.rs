//! What a session's reader does with messages about large files: who carries them out, and what has to be so.

use super::recipe::RecipeJob;
use super::upload::UploadJob;
use super::{Session, SessionError, wire_path};
use crate::wire::{Continued, MINOR_LEFTOVER, WirePath};

impl Session {
    pub(super) async fn open_upload(
        &mut self,
        upload: u64,
        (base, path, leftover): (Option<&WirePath>, Option<&WirePath>, Option<Continued>),
    ) -> Result<(), SessionError> {
        self.may_leave(path.is_some() || leftover.is_some())?;
        let job = UploadJob::Open {
            upload,
            base: base.map(wire_path).transpose()?,
            path: path.map(wire_path).transpose()?,
            leftover: leftover.map(|on| (on.mark, on.length)),
            after: self.sent,
        };
        self.upload(job).await
    }

    pub(super) async fn close(
        &mut self,
        upload: u64,
        size: u64,
        body: &[u8],
    ) -> Result<(), SessionError> {
        let mut body = crate::wire::BodyReader::new(body);
        let bad = |error: crate::wire::BodyError| SessionError::Protocol(error.to_string());
        let digest = body.digest().map_err(bad)?;
        body.finish().map_err(bad)?;
        let job = UploadJob::Close {
            upload,
            size,
            announced: (Some(digest), None),
        };
        self.upload(job).await
    }

    pub(super) async fn recipe(&mut self, job: RecipeJob) -> Result<(), SessionError> {
        self.may_leave(job.leftover)?;
        if job.leftover {
            // What the uploads before it have left is known when their messages were taken.
            return self.upload(UploadJob::Recipe(job)).await;
        }
        let sent = self.recipes.send(job).await;
        sent.map_err(|_| SessionError::dead_thread())
    }

    /// Leftovers belong to a later minor version.
    fn may_leave(&self, wanted: bool) -> Result<(), SessionError> {
        if wanted && self.guest.minor < MINOR_LEFTOVER {
            let message = "there are no leftovers in this session";
            return Err(SessionError::Protocol(message.to_owned()));
        }
        Ok(())
    }

    pub(super) async fn upload(&mut self, job: UploadJob) -> Result<(), SessionError> {
        let sent = self.uploads.send(job).await;
        sent.map_err(|_| SessionError::dead_thread())
    }
}
