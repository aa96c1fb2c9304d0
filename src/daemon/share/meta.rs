//! What a directory remembers of its use, in `.syncd/share.json`: a share's id and writer, or that it holds shares.

use crate::host::disk::Private;
use crate::host::root::fault;
use crate::model::Fault;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

const FILE: &str = "share.json";
const FORMAT: u32 = 1;

/// How a directory is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Use {
    /// It is one share.
    Share,
    /// It holds named shares.
    Parent,
}

/// Who may write a share.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct WriterMeta {
    /// The id of the device.
    pub(super) device: String,
    /// The name of the device when it came.
    pub(super) device_name: String,
    /// The id of the source.
    pub(super) source: String,
    /// The source for a person.
    pub(super) source_name: String,
}

/// The content of `share.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    format: u32,
    /// Random, made once.
    pub(super) id: String,
    /// Nothing until the first client said.
    #[serde(rename = "use")]
    pub(super) used: Option<Use>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) writer: Option<WriterMeta>,
    /// Whether the writer's tree was mirrored once: what leaves the view is no longer kept.
    #[serde(default)]
    pub(super) settled: bool,
}

/// Why `share.json` is of no use.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The system does not read or write it.
    #[error("cannot use `.syncd/{FILE}`: {0}")]
    System(Errno),
    /// It is not what this program writes.
    #[error("`.syncd/{FILE}` is damaged")]
    Damaged(#[from] serde_json::Error),
    /// A newer release wrote it.
    #[error("`.syncd/{FILE}` has format {0}, this release knows {FORMAT}")]
    Format(u32),
}

impl MetaError {
    /// What it is for whoever asked.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::System(errno) => fault(*errno),
            Self::Damaged(_) | Self::Format(_) => Fault::Io,
        }
    }
}

impl Meta {
    pub(super) fn new(id: String) -> Self {
        Self {
            format: FORMAT,
            id,
            used: None,
            writer: None,
            settled: false,
        }
    }

    /// Reads it; nothing when the directory was never used.
    pub(super) fn load(private: &Private) -> Result<Option<Self>, MetaError> {
        let Some(bytes) = private.read(FILE).map_err(MetaError::System)? else {
            return Ok(None);
        };
        let meta: Self = serde_json::from_slice(&bytes)?;
        if meta.format == FORMAT {
            Ok(Some(meta))
        } else {
            Err(MetaError::Format(meta.format))
        }
    }

    /// The name of the share's index among the indexes of a server.
    pub(super) fn index_file(&self) -> String {
        // The id is what the file says: it may be no name at all.
        let hash = blake3::hash(self.id.as_bytes()).to_hex();
        format!("index-{}", hash.get(..32).unwrap_or_default())
    }

    /// Writes it durably.
    pub(super) fn save(&self, private: &Private) -> Result<(), MetaError> {
        let bytes = serde_json::to_vec_pretty(self)?;
        private.write(FILE, &bytes).map_err(MetaError::System)
    }
}
