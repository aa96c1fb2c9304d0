//! Changes by those who do not mirror: they go the way of a writer's, through the stage and the index, one message at a
//! time.

use super::Using;
use super::files::{failed, response};
use crate::daemon::changes::{self, touched};
use crate::daemon::session::SessionError;
use crate::daemon::session::progress::Flow;
use crate::daemon::share::{Refusal, is_bare};
use crate::engine::ports::{Store, StoreError};
use crate::engine::server::{Change, SetId, Source, Stager, decode};
use crate::engine::source::FoundKind;
use crate::host::disk::DiskStore;
use crate::model::{Fault, RelPath};
use crate::wire::{Code, Failed, FileAnswer, Given, Op, Response};
use bytes::Bytes;
use std::sync::Arc;

/// Conditions of one message at most.
const MAX_GIVEN: usize = 512;

/// Changes that were looked at.
#[derive(Debug)]
pub(super) struct Changing {
    changes: Vec<Result<Change, Failed>>,
    given: Vec<(RelPath, Being)>,
    /// Paths that the index has to know rightly.
    paths: Vec<RelPath>,
    /// Where finished uploads are.
    flow: Option<Arc<Flow>>,
}

/// What may be at a path.
#[derive(Clone, Copy, Debug)]
enum Being {
    Nothing,
    NoDirectory,
    Bare,
}

/// Takes a message apart.
pub(super) fn understood(
    (ops, given): (&[Op], &[Given]),
    body: &Bytes,
    setid: SetId,
    flow: Option<Arc<Flow>>,
) -> Result<Changing, SessionError> {
    let bad = |what: &str| SessionError::Protocol(what.to_owned());
    if given.len() > MAX_GIVEN {
        return Err(bad("a change is based on too much"));
    }
    changes::log(ops);
    let changes = decode(ops, body, setid)?;
    let mut paths = Vec::new();
    for change in changes.iter().flatten() {
        match change {
            Change::Put {
                source: Source::Copy(_),
                ..
            }
            | Change::Exchange { .. } => return Err(bad("that is only for who mirrors")),
            Change::Put { path, .. }
            | Change::Mkdir { path, .. }
            | Change::Symlink { path, .. } => {
                paths.extend(path.split().map(|(parent, _)| parent));
            }
            Change::Attributes { path, .. } | Change::Delete { path } => paths.push(path.clone()),
            Change::Rename { from, to } => {
                paths.push(from.clone());
                paths.extend(to.split().map(|(parent, _)| parent));
            }
        }
        if let Change::Mkdir { path, .. } = change {
            paths.push(path.clone());
        }
    }
    paths.retain(|path| !path.is_root());
    paths.sort_unstable();
    paths.dedup();
    let given = given.iter().map(|given| {
        let (path, being) = match given {
            Given::Absent { path } => (path, Being::Nothing),
            Given::NoDirectory { path } => (path, Being::NoDirectory),
            Given::Bare { path } => (path, Being::Bare),
        };
        Ok((super::wire_path(path)?, being))
    });
    let given = given.collect::<Result<_, SessionError>>()?;
    Ok(Changing {
        changes,
        given,
        paths,
        flow,
    })
}

/// Carries the changes out, all or, where something is not as they are based on, none.
pub(super) fn change(using: &Using, id: u64, changing: Changing) -> Result<(), Refusal> {
    let answer = match carried_out(using, id, changing)? {
        Ok(failed) => FileAnswer::Changed { failed },
        Err(answer) => answer,
    };
    using.answer(&response(id, answer), Vec::new());
    Ok(())
}

type Outcome = Result<Vec<Failed>, FileAnswer>;

fn carried_out(using: &Using, id: u64, changing: Changing) -> Result<Outcome, Refusal> {
    let held = match using.user.made()?.borrow() {
        Ok(held) => held,
        Err(refusal) => return Ok(Err(refused(refusal))),
    };
    let Changing {
        changes,
        given,
        paths,
        flow,
    } = changing;
    // What cannot be is not staged first.
    if let Err(error) = holds(&given, held.share.store()) {
        return Ok(Err(not_given(&error)));
    }
    let mut stager = Stager::new(Arc::clone(held.share.store()));
    let mut take = |upload| flow.as_ref()?.take_upload(upload);
    // Nothing is copied, so nothing is waited for.
    let touched: Vec<RelPath> = changes
        .iter()
        .flatten()
        .flat_map(touched)
        .cloned()
        .collect();
    stager.add((id, u64::MAX), changes, &mut take, &mut drop);
    let group = stager.finish();
    let given = Box::new(move |store: &DiskStore| holds(&given, store));
    let answers = held.change(group, paths, given);
    using.files.forget(&using.space, touched.iter());
    let answers = match answers {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => return Ok(Err(not_given(&error))),
        Err(refusal) => return Ok(Err(refused(refusal))),
    };
    let failed = answers.into_iter().filter_map(|answer| match answer {
        Response::Applied { failed, .. } => Some(failed),
        _ => None,
    });
    Ok(Ok(failed.flatten().collect()))
}

fn refused(refusal: Refusal) -> FileAnswer {
    let Refusal { code, message } = refusal;
    FileAnswer::Failed { code, message }
}

fn not_given(error: &StoreError) -> FileAnswer {
    match error.fault {
        Fault::Changed => FileAnswer::Failed {
            code: Code::Exists,
            message: error.message.clone(),
        },
        _ => failed(error),
    }
}

/// Whether everything is as the changes are based on.
fn holds(given: &[(RelPath, Being)], store: &DiskStore) -> Result<(), StoreError> {
    for (path, being) in given {
        let found = match store.lstat(path) {
            Ok(found) => found,
            Err(error) if error.fault == Fault::Changed => None,
            Err(error) => return Err(error),
        };
        let Some(found) = found else { continue };
        let directory = found.kind == FoundKind::Directory;
        match being {
            Being::Nothing => {
                return Err(StoreError::changed(format!("`{path}` is there already")));
            }
            Being::NoDirectory if directory => {
                return Err(StoreError::changed(format!("`{path}` is a directory")));
            }
            Being::Bare if directory && !is_bare(store, path)? => {
                return Err(StoreError::changed(format!("`{path}` is not empty")));
            }
            Being::NoDirectory | Being::Bare => {}
        }
    }
    Ok(())
}
