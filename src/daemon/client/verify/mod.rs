//! Both sides compared by content, beside whatever client runs.
//!
//! A line of its own: a running client's session goes on, and what this one reads on the server holds nobody up. What is
//! not the same is looked at again, once the running client has nothing left to send, so that what is merely on its way
//! is not taken for a difference. Nothing is changed; [`Verifier::paths`] are what a client has to put right.

mod judge;
mod line;
mod local;
mod walk;

pub use judge::{Difference, Status};
pub use walk::Verification;

use super::{ClientError, target};
use crate::daemon::connect::Connector;
use crate::daemon::control::ask_daemon;
use crate::daemon::options::ClientOptions;
use crate::host::control::Running;
use crate::host::dirs::Dirs;
use crate::host::own::Own;
use crate::host::setid::SetIds;
use crate::host::source::SourceRoot;
use crate::model::RelPath;
use judge::Finding;
use line::{DEPTH, Line, Page};
use local::{Blind, Local};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use walk::{Directory, Tally};

/// How often what is not certain is looked at again.
const LOOKS: usize = 3;
/// How long a running client may take to send what it has.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long something that changes is left alone before it is looked at again.
const PAUSE: Duration = Duration::from_millis(100);

/// Compares a source with its mirror on one server.
#[derive(Debug)]
pub struct Verifier {
    address: String,
    source: Arc<Local>,
    line: Line,
    tally: Tally,
    /// How long a running client may take.
    patience: Duration,
}

impl Verifier {
    /// A verifier for each server of a client.
    ///
    /// # Errors
    /// When the source cannot be opened, a server not be reached, or it lets nobody look.
    pub async fn open(mut options: ClientOptions, dirs: Dirs) -> Result<Vec<Self>, ClientError> {
        let root = SourceRoot::open(&options.directory).map_err(|source| ClientError::Source {
            path: options.directory.clone(),
            source,
        })?;
        let root = root.without(&options.private(&dirs));
        options.own.as_ref().map(Own::load).transpose()?;
        let connector = Connector::new(dirs).with_own(options.own.clone());
        target::choose(&mut options, &connector)?;
        let mut all = Vec::new();
        for address in &options.servers {
            let (line, keeps_setid) = Line::open(&connector, address, &options).await?;
            let setids = SetIds::default();
            setids.set_kept(keeps_setid);
            let root = root.with_setids(setids);
            all.push(Self {
                address: address.clone(),
                source: Arc::new(Local::new(root, &options.ignore, options.delete_ignored)),
                line,
                tally: Tally::default(),
                patience: PATIENCE,
            });
        }
        Ok(all)
    }

    /// Ends the line to the server in order.
    pub async fn close(self) {
        self.line.close().await;
    }

    /// The address of the server.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What was found so far.
    #[must_use]
    pub fn verification(&self) -> Verification {
        Verification {
            differences: self.tally.findings.iter().map(Finding::told).collect(),
            ..self.tally.sums.clone()
        }
    }

    /// The paths that a client has to put right: a bounded list.
    #[must_use]
    pub fn paths(&self) -> Vec<RelPath> {
        let findings = self.tally.findings.iter();
        findings.filter_map(Finding::path).collect()
    }

    /// Compares everything. `client` is the client of the source that runs, if one does.
    ///
    /// # Errors
    /// When the server is lost.
    pub async fn run(&mut self, client: Option<&Running>) -> Result<(), ClientError> {
        if client.is_some() {
            self.settle(client).await;
        }
        self.tally = Tally {
            todo: vec![Directory::root()],
            ..Tally::default()
        };
        self.walk().await?;
        if client.is_none() {
            // Nobody brings what differs to the server meanwhile.
            for finding in &mut self.tally.findings {
                finding.certain = finding.status != Status::Changing;
            }
        }
        self.look_again(client).await
    }

    /// Looks again at what was found, after a client was told to put it right.
    ///
    /// # Errors
    /// When the server is lost.
    pub async fn recheck(&mut self, client: Option<&Running>) -> Result<(), ClientError> {
        for finding in &mut self.tally.findings {
            finding.certain = false;
        }
        self.look_again(client).await
    }

    async fn look_again(&mut self, client: Option<&Running>) -> Result<(), ClientError> {
        for _ in 0..LOOKS {
            if self.tally.findings.iter().all(|finding| finding.certain) {
                return Ok(());
            }
            self.settle(client).await;
            self.again().await?;
        }
        for finding in &mut self.tally.findings {
            if !finding.certain {
                finding.status = Status::Changing;
            }
        }
        self.recount();
        Ok(())
    }

    /// Gives a running client the time to send what it has; without one, what changes the time to change.
    async fn settle(&mut self, client: Option<&Running>) {
        let Some(client) = client else {
            return sleep(PAUSE).await;
        };
        let question = json!({ "op": "flush" });
        let flushed = timeout(self.patience, ask_daemon(client, &question)).await;
        if !matches!(flushed, Ok(Ok(_))) {
            // One that is stuck is not waited for again and again.
            self.patience = PAUSE;
            tracing::warn!(
                "the client that runs has not sent everything: what it has under way may differ"
            );
        }
    }

    async fn walk(&mut self) -> Result<(), ClientError> {
        let mut asked = VecDeque::new();
        loop {
            while asked.len() < DEPTH
                && let Some(dir) = self.tally.todo.pop()
            {
                if dir.there {
                    self.line.ask(&dir.path, dir.first.as_ref(), None).await?;
                    asked.push_back(dir);
                } else {
                    self.compare(dir, Page::default()).await?;
                }
            }
            let Some(dir) = asked.pop_front() else {
                return Ok(());
            };
            let page = self.line.answer().await?;
            if let Some(dir) = self.compare(dir, page).await? {
                self.line.ask(&dir.path, dir.first.as_ref(), None).await?;
                asked.push_back(dir);
            }
        }
    }

    /// Compares a directory on a thread that may wait for the disk.
    async fn compare(
        &mut self,
        dir: Directory,
        page: Page,
    ) -> Result<Option<Directory>, ClientError> {
        let (source, mut tally) = (Arc::clone(&self.source), std::mem::take(&mut self.tally));
        let compared = spawn_blocking(move || {
            let more = tally.compare(&source, dir, page);
            (tally, more)
        });
        let (tally, more) = compared.await.map_err(ClientError::Broken)?;
        self.tally = tally;
        Ok(more)
    }

    /// Looks once more at what is not certain.
    async fn again(&mut self) -> Result<(), ClientError> {
        let all = std::mem::take(&mut self.tally.findings);
        let (mut done, unsure): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|finding| finding.certain);
        let mut todo = VecDeque::from(unsure);
        let mut asked: VecDeque<Finding> = VecDeque::new();
        loop {
            while asked.len() < DEPTH
                && let Some(finding) = todo.pop_front()
            {
                let name = Some(&finding.name);
                self.line.ask(&finding.dir, name, name).await?;
                asked.push_back(finding);
            }
            let Some(old) = asked.pop_front() else {
                break;
            };
            let page = self.line.answer().await?;
            let (source, mut tally) = (Arc::clone(&self.source), std::mem::take(&mut self.tally));
            let looked = spawn_blocking(move || {
                let now = again(&source, &mut tally, old, page);
                (tally, now)
            });
            let (tally, now) = looked.await.map_err(ClientError::Broken)?;
            self.tally = tally;
            done.extend(now);
        }
        done.sort_by_cached_key(Finding::path);
        self.tally.findings = done;
        self.recount();
        Ok(())
    }

    /// Counts what is named anew; what is not named stays as it was counted.
    fn recount(&mut self) {
        let sums = &mut self.tally.sums;
        if self.tally.counted > walk::NAMED as u64 {
            return;
        }
        (sums.differing, sums.missing, sums.extra) = (0, 0, 0);
        (sums.unreadable, sums.changing) = (0, 0);
        for finding in &self.tally.findings {
            sums.count(finding.status);
        }
    }
}

/// Looks at a path that was not the same. What it is now; nothing when it is the same.
fn again(source: &Local, tally: &mut Tally, old: Finding, mut page: Page) -> Option<Finding> {
    let remote = page.entries.remove(&old.name);
    let found = match source.look(&old.dir, &old.name) {
        Ok(found) => found,
        Err(Blind::Changed) => return Some(old),
        Err(Blind::Failed(message)) => {
            if let Some(path) = old.path() {
                tally.sums.fail(&path, message);
            }
            return None;
        }
    };
    let mut now = tally.look(source, (&old.dir, &old.name), found, remote);
    match &mut now {
        Some(now) => now.certain = now.status != Status::Changing && now.seen == old.seen,
        None => tally.sums.settled += 1,
    }
    now
}
