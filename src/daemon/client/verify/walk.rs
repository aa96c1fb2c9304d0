//! One directory of both sides at a time: its names are compared in order, a part of the server's at a time.

use super::judge::{Difference, Finding, Local as Here, Remote, Status, judge};
use super::line::Page;
use super::local::{Blind, Listed, Local, Ruled, Scope};
use crate::daemon::status::PathProblem;
use crate::engine::source::{Found, FoundKind};
use crate::model::{Name, RelPath};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// So many paths are named that are not the same; of more, only the number.
pub(super) const NAMED: usize = 10_000;
/// So many problems are named.
const NAMED_PROBLEMS: usize = 1000;

/// What a comparison of both sides came to.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Verification {
    /// How many paths are the same on both sides.
    pub equal: u64,
    /// Bytes of files that were read on both sides and are the same.
    pub bytes: u64,
    /// How many paths are on both sides and not the same.
    pub differing: u64,
    /// How many the server lacks.
    pub missing: u64,
    /// How many the source lacks.
    pub extra: u64,
    /// How many the server cannot read.
    pub unreadable: u64,
    /// How many were another each time that they were looked at.
    pub changing: u64,
    /// How many changed meanwhile, and were the same when they were looked at again.
    pub settled: u64,
    /// How many rules leave out, a directory counting once.
    pub ignored: u64,
    /// How many are neither files, directories nor links.
    pub skipped: u64,
    /// The first of those that are not the same.
    pub differences: Vec<Difference>,
    /// The first of the paths of the source that could not be compared.
    pub problems: Vec<PathProblem>,
    /// How many there are.
    pub problems_total: u64,
}

impl Verification {
    /// How many paths are not the same on both sides, or not for certain.
    #[must_use]
    pub fn different(&self) -> u64 {
        self.differing + self.missing + self.extra + self.unreadable + self.changing
    }

    pub(super) fn count(&mut self, status: Status) {
        let of_status = match status {
            Status::Differs => &mut self.differing,
            Status::Missing => &mut self.missing,
            Status::Extra => &mut self.extra,
            Status::Unreadable => &mut self.unreadable,
            Status::Changing => &mut self.changing,
        };
        *of_status += 1;
    }

    fn same(&mut self, found: Option<&Here>) {
        self.equal += 1;
        if let Some(FoundKind::File { size }) = found.map(|here| &here.found.kind) {
            self.bytes += size;
        }
    }

    pub(super) fn fail(&mut self, path: &RelPath, message: String) {
        self.problems_total += 1;
        if self.problems.len() < NAMED_PROBLEMS {
            self.problems.push(PathProblem {
                path: path.to_string(),
                message,
                since_ms: None,
            });
        }
    }
}

/// A directory that is to be compared.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: RelPath,
    up: Option<(Arc<Scope>, Name)>,
    /// Whether the source has it.
    here: bool,
    /// Whether the server has it.
    pub(super) there: bool,
    /// The names before it were compared.
    pub(super) first: Option<Name>,
    listed: Option<Listed>,
}

impl Directory {
    pub(super) fn root() -> Self {
        Self {
            path: RelPath::root(),
            up: None,
            here: true,
            there: true,
            first: None,
            listed: None,
        }
    }
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sums: Verification,
    pub(super) findings: Vec<Finding>,
    pub(super) todo: Vec<Directory>,
    /// How many were not the same at the first look.
    pub(super) counted: u64,
}

impl Tally {
    /// Compares the names of a directory that a page tells of. The directory, if there is more of it.
    pub(super) fn compare(
        &mut self,
        source: &Local,
        mut dir: Directory,
        mut page: Page,
    ) -> Option<Directory> {
        if let Some(message) = page.failed {
            let message = format!("the server cannot look into it: {message}");
            self.sums.fail(&dir.path, message);
            return None;
        }
        let mut listed = match dir.listed.take() {
            Some(listed) => listed,
            None => self.list(source, &dir)?,
        };
        let told = |name: &Name| page.next.as_ref().is_none_or(|next| name < next);
        let names: BTreeSet<Name> = listed
            .entries
            .keys()
            .take_while(|name| told(name))
            .chain(page.entries.keys())
            .cloned()
            .collect();
        for name in names {
            let (found, remote) = (listed.entries.remove(&name), page.entries.remove(&name));
            self.name(source, &dir, &listed.scope, name, found, remote);
        }
        dir.first = Some(page.next?);
        dir.listed = Some(listed);
        Some(dir)
    }

    fn list(&mut self, source: &Local, dir: &Directory) -> Option<Listed> {
        if !dir.here {
            return Some(Listed {
                scope: Scope::below(dir.up.clone()),
                ..Listed::default()
            });
        }
        let why = match source.list(&dir.path, dir.up.clone()) {
            Ok(listed) => return Some(listed),
            Err(Blind::Failed(message)) => format!("cannot look into it: {message}"),
            Err(Blind::Changed) => "it changed while it was looked into".to_owned(),
        };
        self.sums.fail(&dir.path, why);
        None
    }

    fn name(
        &mut self,
        source: &Local,
        dir: &Directory,
        scope: &Arc<Scope>,
        name: Name,
        mut found: Option<Found>,
        remote: Option<Remote>,
    ) {
        let there = remote.as_ref().is_some_and(Remote::is_dir);
        let is_dir = |found: &Found| found.kind == FoundKind::Directory;
        match source.ruled(scope, &name, found.as_ref().map_or(there, is_dir)) {
            Ruled::In => {}
            Ruled::Kept => return self.sums.ignored += 1,
            Ruled::Gone => {
                self.sums.ignored += 1;
                found = None;
            }
        }
        if found
            .as_ref()
            .is_some_and(|found| matches!(found.kind, FoundKind::Special(_)))
        {
            self.sums.skipped += 1;
            found = None;
        }
        let here = found.as_ref().is_some_and(is_dir);
        if (here || there)
            && let Ok(path) = dir.path.join(&name)
        {
            self.todo.push(Directory {
                path,
                up: Some((Arc::clone(scope), name.clone())),
                here,
                there,
                first: None,
                listed: None,
            });
        }
        if let Some(finding) = self.look(source, (&dir.path, &name), found, remote) {
            self.sums.count(finding.status);
            self.counted += 1;
            if self.findings.len() < NAMED {
                self.findings.push(finding);
            }
        }
    }

    /// Compares one path, its content too.
    pub(super) fn look(
        &mut self,
        source: &Local,
        (dir, name): (&RelPath, &Name),
        found: Option<Found>,
        remote: Option<Remote>,
    ) -> Option<Finding> {
        let Some(found) = found else {
            return judge((dir, name), None, remote);
        };
        let mut here = Here {
            found,
            digest: None,
        };
        if remote
            .as_ref()
            .is_some_and(|remote| remote.may_be(&here.found))
        {
            match source.read(dir, name) {
                Ok((found, digest)) => {
                    here = Here {
                        found,
                        digest: Some(digest),
                    }
                }
                Err(Blind::Changed) => {
                    return Some(Finding {
                        dir: dir.clone(),
                        name: name.clone(),
                        status: Status::Changing,
                        what: Vec::new(),
                        why: None,
                        seen: (Some(here), remote),
                        certain: false,
                    });
                }
                Err(Blind::Failed(message)) => {
                    if let Ok(path) = dir.join(name) {
                        self.sums.fail(&path, message);
                    }
                    return None;
                }
            }
        }
        let finding = judge((dir, name), Some(here.clone()), remote);
        if finding.is_none() {
            self.sums.same(Some(&here));
        }
        finding
    }
}
