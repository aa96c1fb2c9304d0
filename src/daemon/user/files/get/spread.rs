//! One large file from several servers at once that have the same content.
//!
//! The first server that answers says what the file is. Each line takes the next range that is missing; what it brings is
//! held against the blocks that were told. A line that ends, says nothing or brings other bytes is left, and its range goes back.

use super::blocks::{AHEAD, RANGE, Summed};
use super::{Fetch, Whole, size_of};
use crate::daemon::user::Answers;
use crate::daemon::user::files::FileError;
use crate::daemon::user::files::work::Work;
use crate::host::local::Partial;
use crate::wire::{FileAsk, WirePath};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Least length of a file that several servers bring together, in bytes.
const SHARED: u64 = 1024 * 1024;
/// Bytes of a range at least, so that a file that is not long has some for each line.
const SHORTEST: u64 = 256 * 1024;

/// What is left to be fetched.
struct Left {
    todo: VecDeque<Range<u64>>,
    /// Ranges that are not here.
    open: usize,
    moved: u64,
    /// What ends it for all lines.
    ended: Option<FileError>,
}

/// What the lines share.
struct Spread<'a> {
    partial: &'a Partial,
    summed: &'a Summed,
    left: Mutex<Left>,
    changed: Condvar,
}

impl Spread<'_> {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next range for a line that has so many asked for; none when it waits for those, or everything is here.
    fn next(&self, asked: usize) -> Option<Range<u64>> {
        let mut left = self.left();
        loop {
            if left.open == 0 || left.ended.is_some() {
                return None;
            }
            if let Some(range) = left.todo.pop_front() {
                return Some(range);
            }
            if asked > 0 {
                return None;
            }
            // Those that others have may come back.
            let waited = self.changed.wait(left);
            left = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, bytes: u64) {
        let mut left = self.left();
        left.open -= 1;
        left.moved += bytes;
        drop(left);
        self.changed.notify_all();
    }

    fn back(&self, ranges: impl Iterator<Item = Range<u64>>) {
        self.left().todo.extend(ranges);
        self.changed.notify_all();
    }

    fn end(&self, error: FileError) {
        self.left().ended.get_or_insert(error);
        self.changed.notify_all();
    }

    fn is_over(&self) -> bool {
        let left = self.left();
        left.open == 0 || left.ended.is_some()
    }
}

impl Fetch<'_> {
    /// The lines that the file comes over, by their server: the first is the one of the worker. One where it is not worth more.
    pub(super) fn lines(&self) -> Vec<String> {
        let work = self.work;
        let own = work.connection.server().to_owned();
        let mut lines = vec![own.clone()];
        if self.size >= SHARED {
            let others = work.servers.names.iter().filter(|it| **it != own);
            lines.extend(others.cloned());
        }
        lines
    }

    /// Fetches what is missing over several lines.
    pub(super) fn spread(
        &self,
        partial: &Partial,
        lines: &[String],
        moved: &mut u64,
    ) -> Result<Whole, FileError> {
        let failed = || FileError::local("write", partial.path());
        let kind = self.kind();
        let (first, work, summed) = self.first(lines, kind)?;
        let size = size_of(&summed.whole.entry);
        let share = size / (4 * lines.len() as u64);
        let longest = share.clamp(SHORTEST, RANGE);
        let missing = self.missing(partial, &summed.recipe, longest)?;
        partial.set_size(size).map_err(failed())?;
        let lacking: u64 = missing.iter().map(|range| range.end - range.start).sum();
        self.work.count(size.saturating_sub(lacking));
        let spread = Spread {
            partial,
            summed: &summed,
            left: Mutex::new(Left {
                open: missing.len(),
                todo: missing.into(),
                moved: 0,
                ended: None,
            }),
            changed: Condvar::new(),
        };
        let over = self.work.watcher.stop.child_token();
        let last = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for (index, server) in lines.iter().enumerate().skip(first) {
                let own = (index == first).then(|| work.clone());
                let (spread, over, kind) = (&spread, &over, kind);
                threads.push(scope.spawn(move || {
                    let ended = self.line(spread, (server, own), kind, over);
                    if spread.is_over() {
                        // Nobody waits for an answer any more.
                        over.cancel();
                    }
                    ended
                }));
            }
            let ends = threads.into_iter().map(|thread| thread.join().ok());
            ends.flatten().filter_map(Result::err).last()
        });
        let left = spread.left.into_inner();
        let left = left.unwrap_or_else(PoisonError::into_inner);
        *moved += left.moved;
        if left.open > 0 {
            self.work.check()?;
            return Err(left.ended.or(last).unwrap_or(FileError::Stopped));
        }
        let sum = super::blocks::stored_sum(partial, size, &|| self.work.check())?;
        self.checked(partial, summed.whole, sum)
    }

    /// The first server that says what the file is.
    fn first(
        &self,
        lines: &[String],
        kind: (u32, u64),
    ) -> Result<(usize, Work, Summed), FileError> {
        let mut last = FileError::Stopped;
        for (index, server) in lines.iter().enumerate() {
            let work = match index {
                0 => Ok(self.work.clone()),
                _ => self.work.to(server),
            };
            let summed = work.and_then(|work| {
                let summed = self.over(&work).sum_in(kind)?;
                Ok((index, work, summed))
            });
            match summed {
                Ok(summed) => return Ok(summed),
                Err(error) if is_own(&error) => return Err(error),
                Err(error) => last = self.left_out(server, error),
            }
        }
        Err(last)
    }

    /// Says that a server is not asked any more.
    fn left_out(&self, server: &str, error: FileError) -> FileError {
        tracing::warn!(
            "{server} is not asked for `{}` any more: {error}",
            self.remote
        );
        error
    }

    fn over<'a>(&'a self, work: &'a Work) -> Fetch<'a> {
        Fetch {
            work,
            remote: self.remote,
            size: self.size,
        }
    }

    /// Fetches ranges over one line until all are here. Why it was left.
    fn line(
        &self,
        spread: &Spread<'_>,
        (server, own): (&str, Option<Work>),
        kind: (u32, u64),
        over: &tokio_util::sync::CancellationToken,
    ) -> Result<(), FileError> {
        let ended = self.ranges(spread, (server, own), kind, over);
        if let Err(error) = ended {
            if spread.is_over() {
                return Ok(());
            }
            if is_own(&error) {
                spread.end(error);
                return Ok(());
            }
            return Err(self.left_out(server, error));
        }
        Ok(())
    }

    fn ranges(
        &self,
        spread: &Spread<'_>,
        (server, own): (&str, Option<Work>),
        kind: (u32, u64),
        over: &tokio_util::sync::CancellationToken,
    ) -> Result<(), FileError> {
        let is_told = own.is_some();
        let mut work = match own {
            Some(work) => work,
            None => {
                let mut stopped = self.work.clone();
                stopped.watcher.stop = over.clone();
                stopped.to(server)?
            }
        };
        work.watcher.stop = over.clone();
        let fetch = self.over(&work);
        let version = if is_told {
            spread.summed.version.clone()
        } else {
            let summed = fetch.sum_in(kind)?;
            if summed.recipe != spread.summed.recipe || summed.whole.sum != spread.summed.whole.sum
            {
                return Err(FileError::Other("it has another content there".to_owned()));
            }
            summed.version
        };
        let mut waiting: VecDeque<(Range<u64>, Answers)> = VecDeque::new();
        let fetched = fetch.take_turns(spread, &version, &mut waiting);
        if fetched.is_err() {
            spread.back(waiting.into_iter().map(|(range, _)| range));
        }
        fetched
    }

    fn take_turns(
        &self,
        spread: &Spread<'_>,
        version: &str,
        waiting: &mut VecDeque<(Range<u64>, Answers)>,
    ) -> Result<(), FileError> {
        loop {
            while waiting.len() < AHEAD
                && let Some(range) = spread.next(waiting.len())
            {
                let asked = self.ask(FileAsk::Read {
                    path: WirePath::from(self.remote),
                    offset: range.start,
                    length: Some(range.end - range.start),
                    version: Some(version.to_owned()),
                });
                match asked {
                    Ok(answers) => waiting.push_back((range, answers)),
                    Err(error) => {
                        spread.back(std::iter::once(range));
                        return Err(error);
                    }
                }
            }
            let Some((range, answers)) = waiting.front_mut() else {
                return Ok(());
            };
            let recipe = &spread.summed.recipe;
            let bytes = self.range(spread.partial, recipe, range, answers)?;
            waiting.pop_front();
            spread.done(bytes);
        }
    }
}

/// Whether it is no server's fault.
fn is_own(error: &FileError) -> bool {
    matches!(error, FileError::Local { .. } | FileError::Stopped)
}
