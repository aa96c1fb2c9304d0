//! What somebody does with a share who only looks.

use super::{Refusal, Share, lock};
use crate::engine::server::{Inspection, Inspector, Listing, Range};
use crate::host::disk::DiskStore;
use crate::host::place::Above;
use crate::index::Tree;
use crate::model::{RelPath, escape};
use crate::wire::{Code, MINOR_ABOVE, Response};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Somebody who looks at a share, or at nothing where no share is yet.
#[derive(Debug)]
pub struct Visitor {
    share: Option<Arc<Share>>,
    path: PathBuf,
    first_contact: bool,
    _place: OwnedSemaphorePermit,
}

/// Where a share is, for a client on the same machine that mirrors one of the directories that it lies in.
pub(super) fn above(share: &Path, minor: u16) -> Vec<String> {
    if minor < MINOR_ABOVE {
        return Vec::new();
    }
    Above::of(share).names()
}

impl Visitor {
    /// A visitor that comes for a source of a device.
    ///
    /// # Errors
    /// When another source fills the share.
    pub(super) fn new(
        (share, path): (Option<Arc<Share>>, PathBuf),
        (device, source): (&str, &str),
        place: OwnedSemaphorePermit,
    ) -> Result<Self, Refusal> {
        let meta = share.as_ref().map(|share| lock(&share.lease).meta.clone());
        let settled = meta.as_ref().is_some_and(|meta| meta.settled);
        let writer = meta.and_then(|meta| meta.writer);
        match writer {
            Some(writer)
                if (writer.device.as_str(), writer.source.as_str()) != (device, source) =>
            {
                Err(Refusal::new(
                    Code::Held,
                    format!(
                        "`{}` of device `{}` fills this share",
                        escape(writer.source_name.as_bytes()),
                        escape(writer.device_name.as_bytes())
                    ),
                ))
            }
            _ => Ok(Self {
                share,
                path,
                first_contact: !settled,
                _place: place,
            }),
        }
    }

    /// Greets. While no writer is there, the share is compared with its directory first. The message and its body.
    #[must_use]
    pub fn welcome(&self, minor: u16) -> (Response, Vec<u8>) {
        let mut welcome = (String::new(), String::new(), 0, Tree::new().root_sum());
        if let Some(share) = &self.share {
            let (id, alone) = {
                let lease = lock(&share.lease);
                (lease.meta.id.clone(), lease.session.is_none())
            };
            let mut core = lock(&share.core);
            if alone {
                let look = core.refresh();
                share.tell(&mut core, &look);
                share.note(&core, None);
            }
            let generation = core.generation().to_owned();
            welcome = (id, generation, core.version(), core.root_sum());
        }
        let (share, generation, version, sum) = welcome;
        let welcome = Response::Welcome {
            minor,
            share,
            generation,
            version,
            first_contact: self.first_contact,
            keeps_setid: None,
            above: above(&self.path, minor),
        };
        (welcome, sum.to_bytes().to_vec())
    }

    /// What a directory holds, as far as the index knows.
    #[must_use]
    pub fn list(&self, id: u64, path: &RelPath, after: Option<&[u8]>) -> Listing {
        match &self.share {
            Some(share) => lock(&share.core).list(id, path, after),
            None => Listing {
                response: Response::Listing {
                    id,
                    entries: Vec::new(),
                    more: None,
                    found: path.is_root(),
                },
                body: Vec::new(),
            },
        }
    }

    /// Reads the share's directories; nothing does where no share is.
    #[must_use]
    pub fn inspector(&self) -> Option<Inspector<DiskStore>> {
        let share = self.share.as_ref()?;
        Some(Inspector::new(Arc::clone(&share.store)))
    }

    /// Puts the index right by what was read.
    pub fn correct(&self, path: &RelPath, range: &Range, part: &Inspection) {
        let Some(share) = &self.share else { return };
        let mut core = lock(&share.core);
        let look = core.correct(path, range, part);
        share.tell(&mut core, &look);
        if look.differences > 0 {
            share.note(&core, None);
        }
    }
}
