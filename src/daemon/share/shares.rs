//! The shares of one server directory: the directory itself, or named ones below it and elsewhere.

mod places;

pub(super) use places::check_name;

use super::user::Turns;
use super::{Claim, Held, How, Meta, MetaError, Refusal, Share, Upkeep, Use, Visitor, lock};
use crate::daemon::status::ShareStatus;
use crate::host::devices::DeviceInfo;
use crate::host::disk::{OpenError, Private};
use crate::host::random::{self, RandomError};
use crate::host::rights::{Access, Rights};
use crate::host::root::Root;
use crate::model::escape;
use crate::wire::{Code, InvitedShare};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Shares that one server opens at most; each holds a few descriptors.
const MAX_SHARES: usize = 256;
/// How many may look at shares at a time; each has a thread that reads.
const MAX_VISITORS: usize = 16;

/// Why a directory cannot be served, or a share not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SharesError {
    /// The directory itself.
    #[error("cannot open the directory `{}`: {errno}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// Shares that lie in one another.
    #[error(transparent)]
    Nested(#[from] places::Nested),
    /// Its private part.
    #[error("cannot use the directory as a share")]
    Open(#[from] OpenError),
    /// What it remembers.
    #[error("cannot tell how the directory was used")]
    Meta(#[from] MetaError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// No thread.
    #[error("the system has no thread to give")]
    Thread(#[source] io::Error),
}

/// The shares of one server directory.
#[derive(Debug)]
pub struct Shares {
    path: PathBuf,
    root: Root,
    private: Arc<Private>,
    upkeep: Upkeep,
    state: Option<PathBuf>,
    placed: BTreeMap<String, PathBuf>,
    visitors: Arc<Semaphore>,
    pub(super) users: Arc<Semaphore>,
    pub(super) turns: Turns,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// How the directory itself is used.
    meta: Meta,
    open: BTreeMap<Option<String>, Arc<Share>>,
    /// No share is opened any more.
    closed: bool,
}

impl Shares {
    /// Opens and locks a server directory, which must exist. `placed` are shares that lie elsewhere, by name; `state` is
    /// where their indexes are kept, for this server alone.
    ///
    /// # Errors
    /// When it is no directory, another server has it, or its state is damaged.
    pub fn open(
        path: &Path,
        placed: BTreeMap<String, PathBuf>,
        upkeep: Upkeep,
        state: Option<&Path>,
    ) -> Result<Arc<Self>, SharesError> {
        places::check_places(path, &placed)?;
        places::check_above(path, &placed)?;
        let root = open_root(path)?;
        let private = Arc::new(Private::open(&root)?);
        let meta = load_meta(&private)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            root,
            private,
            upkeep,
            state: state.map(Path::to_owned),
            placed,
            visitors: Arc::new(Semaphore::new(MAX_VISITORS)),
            users: Arc::new(Semaphore::new(super::user::MAX_USERS)),
            turns: Turns::default(),
            inner: Mutex::new(Inner {
                meta,
                open: BTreeMap::new(),
                closed: false,
            }),
        }))
    }

    /// Makes a client the writer of a share, which is opened, and made if it is missing.
    ///
    /// # Errors
    /// When the client may not, another holds it, or the directory cannot be used so.
    pub fn attach(&self, name: Option<&str>, claim: &Claim) -> Result<Held, Refusal> {
        let rights = claim.device.rights.get();
        if !rights.allow(name, Access::Write) {
            return Err(forbidden(&rights, name));
        }
        let share = self.share(name)?;
        share.attach(claim)
    }

    /// Lets a device look at a share, which is neither made nor changed: one that is not there yet counts as empty.
    ///
    /// # Errors
    /// When the device may not, another source fills the share, or the directory is not used so.
    pub fn visit(
        &self,
        name: Option<&str>,
        device: &DeviceInfo,
        source: &str,
    ) -> Result<Visitor, Refusal> {
        let rights = device.rights.get();
        if !rights.allow(name, Access::Read) {
            return Err(forbidden(&rights, name));
        }
        let place = self.visitors.clone().try_acquire_owned();
        let place = place
            .map_err(|_| Refusal::new(Code::Busy, "as many as may look at shares do so already"))?;
        let share = if self.is_there(name) {
            Some(self.share(name)?)
        } else {
            None
        };
        let path = name.and_then(|name| self.placed.get(name)).cloned();
        let path = path.unwrap_or_else(|| self.path.join(name.unwrap_or_default()));
        Visitor::new((share, path), (&device.id, source), place)
    }

    /// Whether opening a share makes nothing new: it is open, its directory was used, or holds something.
    pub(super) fn is_there(&self, name: Option<&str>) -> bool {
        let used = lock(&self.inner).meta.used;
        let path = match name {
            Some(name) if self.placed.contains_key(name) => return true,
            Some(name) if used != Some(Use::Share) && check_name(name).is_ok() => {
                self.path.join(name)
            }
            None if used.is_none() => self.path.clone(),
            // It is there, or it is refused with the reason.
            _ => return true,
        };
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name());
        names.any(|entry| name.is_some() || entry.as_encoded_bytes() != b".syncd")
    }

    /// Whether a device can be invited to a share: the directory may be in use in the other way.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn may_invite(&self, share: &InvitedShare) -> Result<(), String> {
        let used = lock(&self.inner).meta.used;
        match share {
            InvitedShare::Named(name) if self.placed.contains_key(name) => Ok(()),
            InvitedShare::Named(name) => check_name(name)
                .map(drop)
                .map_err(|refusal| refusal.message)
                .and_then(|()| not(used == Some(Use::Share), IS_SHARE)),
            InvitedShare::Own => not(used == Some(Use::Share), IS_SHARE),
            InvitedShare::Root => not(used == Some(Use::Parent), IS_PARENT),
        }
    }

    /// What the status says of the shares that were opened.
    #[must_use]
    pub fn status(&self) -> Vec<ShareStatus> {
        let open: Vec<_> = lock(&self.inner).open.values().cloned().collect();
        open.iter().map(|share| share.status()).collect()
    }

    /// Ends all shares: nothing is committed any more, and their indexes are saved. Blocks, a few seconds at most.
    pub fn close(&self) {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        for share in inner.open.values() {
            share.close();
        }
    }

    fn how(&self) -> How<'_> {
        How {
            upkeep: self.upkeep,
            state: self.state.as_deref(),
        }
    }

    pub(super) fn share(&self, name: Option<&str>) -> Result<Arc<Share>, Refusal> {
        let key = name.map(check_name).transpose()?;
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(Refusal::new(Code::Stopping, "the server ends"));
        }
        if let Some(share) = inner.open.get(&key) {
            return Ok(Arc::clone(share));
        }
        if inner.open.len() >= MAX_SHARES {
            return Err(Refusal::new(
                Code::Busy,
                format!("the server has {MAX_SHARES} shares open"),
            ));
        }
        let opened = match &key {
            None => self.open_itself(&mut inner),
            Some(name) => match self.placed.get(name) {
                Some(path) => self.open_apart(name, path),
                None => self.open_below(&mut inner, name),
            },
        };
        let share = opened?;
        inner.open.insert(key, Arc::clone(&share));
        Ok(share)
    }

    fn open_itself(&self, inner: &mut Inner) -> Result<Arc<Share>, Refusal> {
        places::check_free(&self.path, &self.placed)?;
        self.set_use(inner, Use::Share)?;
        let root = self.root.try_clone().map_err(|errno| {
            let path = self.path.clone();
            unusable(&SharesError::Directory { path, errno })
        })?;
        let private = Arc::clone(&self.private);
        let meta = inner.meta.clone();
        Share::open(None, &self.path, root, private, meta, self.how())
            .map_err(|error| unusable(&error))
    }

    fn open_below(&self, inner: &mut Inner, name: &str) -> Result<Arc<Share>, Refusal> {
        places::check_free(&self.path.join(name), &self.placed)?;
        self.set_use(inner, Use::Parent)?;
        let root = self.root.make_below(name.as_bytes()).map_err(|errno| {
            let path = self.path.join(name);
            unusable(&SharesError::Directory { path, errno })
        })?;
        self.open_at(name, &self.path.join(name), root)
    }

    fn open_apart(&self, name: &str, path: &Path) -> Result<Arc<Share>, Refusal> {
        let root = open_root(path).map_err(|error| unusable(&error))?;
        self.open_at(name, path, root)
    }

    fn open_at(&self, name: &str, path: &Path, root: Root) -> Result<Arc<Share>, Refusal> {
        let open = || -> Result<_, SharesError> {
            let private = Arc::new(Private::open(&root)?);
            let meta = load_meta(&private)?;
            Ok((private, meta))
        };
        let (private, mut meta) = open().map_err(|error| unusable(&error))?;
        if meta.used == Some(Use::Parent) {
            return Err(Refusal::new(
                Code::Mixed,
                format!("the directory of `{name}` holds named shares and cannot be one share too"),
            ));
        }
        if meta.used.is_none() {
            meta.used = Some(Use::Share);
            meta.save(&private)
                .map_err(|error| unusable(&error.into()))?;
        }
        let name = Some(name.to_owned());
        Share::open(name, path, root, private, meta, self.how()).map_err(|error| unusable(&error))
    }

    /// Records how the directory itself is used; the other way is refused from then on.
    fn set_use(&self, inner: &mut Inner, wanted: Use) -> Result<(), Refusal> {
        match (inner.meta.used, wanted) {
            (Some(Use::Share), Use::Parent) => Err(Refusal::new(
                Code::Mixed,
                "the server's directory is one share already: connect without a share's name, or serve another directory",
            )),
            (Some(Use::Parent), Use::Share) => Err(Refusal::new(
                Code::Mixed,
                "the server's directory holds named shares: name one with `--share NAME`",
            )),
            (Some(_), _) => Ok(()),
            (None, wanted) => {
                let mut meta = inner.meta.clone();
                meta.used = Some(wanted);
                meta.save(&self.private)
                    .map_err(|error| unusable(&error.into()))?;
                inner.meta = meta;
                Ok(())
            }
        }
    }
}

const IS_SHARE: &str =
    "the server's directory is one share already: invite with `--root`, or serve another directory";
const IS_PARENT: &str =
    "the server's directory holds named shares: invite with `--share NAME`, or without either";

fn not(wrong: bool, message: &str) -> Result<(), String> {
    if wrong {
        return Err(message.to_owned());
    }
    Ok(())
}

/// What a device is told that may not write a share.
pub(super) fn forbidden(rights: &Rights, name: Option<&str>) -> Refusal {
    let titled = |name: Option<&str>| match name {
        Some(name) => format!("the share `{}`", escape(name.as_bytes())),
        None => "the directory itself".to_owned(),
    };
    let writable: Vec<String> = rights
        .shares()
        .filter(|(_, access)| *access == Access::Write)
        .map(|(name, _)| titled(name))
        .collect();
    let only = if rights.allow(name, Access::Read) {
        "only read"
    } else {
        "not use"
    };
    let instead = if writable.is_empty() {
        String::new()
    } else {
        format!(", but write {}", writable.join(", "))
    };
    let what = titled(name);
    Refusal::new(
        Code::Forbidden,
        format!(
            "this device may {only} {what}{instead}; more takes a new `syncd invite` on the server"
        ),
    )
}

fn open_root(path: &Path) -> Result<Root, SharesError> {
    Root::open(path).map_err(|errno| SharesError::Directory {
        path: path.to_owned(),
        errno,
    })
}

fn load_meta(private: &Private) -> Result<Meta, SharesError> {
    match Meta::load(private)? {
        Some(meta) => Ok(meta),
        None => Ok(Meta::new(random::hex::<16>()?)),
    }
}

/// What a peer is told of a share that cannot be opened; the rest is in the log.
fn unusable(error: &SharesError) -> Refusal {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| {
        error.source()
    });
    let text: Vec<String> = causes.map(ToString::to_string).collect();
    tracing::error!(error = %text.join(": "), "a share cannot be opened");
    match error {
        SharesError::Directory { errno, .. } if *errno == Errno::NOENT => {
            Refusal::new(Code::NoShare, "the share's directory does not exist")
        }
        SharesError::Open(OpenError::Locked) => {
            Refusal::new(Code::Busy, "another server uses the share's directory")
        }
        _ => Refusal::new(
            Code::Fault(crate::model::Fault::Io),
            "the server cannot open the share; its log says why",
        ),
    }
}
