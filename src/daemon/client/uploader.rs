//! Readers of large files: each file is read once or twice through one descriptor, cut into instructions and sent in
//! pieces on the bulk queue, where small changes overtake it.

use super::asked::Answer;
use super::mirror::{Input, Link};
use super::sender::{Sender, Stop};
use super::stable::{End, changed, failed, fill, refused, still};
use crate::daemon::pump::Outgoing;
use crate::delta::{ContentHasher, DeltaEncoder, Encoded, Instruction, Recipe, block_size_or};
use crate::engine::client::{ReadOutcome, UploadJob};
use crate::engine::source::{Found, FoundKind};
use crate::host::random;
use crate::host::recipes::RecipeStore;
use crate::host::source::SourceRoot;
use crate::model::{Digest, RelPath};
use crate::wire::{Continued, Request, WirePath};
use std::fs::File;
use std::io::Seek;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;
/// After so many chunks, whether the file still is what it was.
const CHECK: usize = 256;

/// What the server has of a file.
struct Old<'a> {
    /// The path of its version in view.
    base: Option<&'a RelPath>,
    /// The recipe of that, or of what an upload has left, continued by that.
    recipe: Option<Arc<Recipe>>,
    leftover: Option<Continued>,
}

/// A file to be sent over a session.
pub(super) struct Job {
    pub(super) link: Link,
    pub(super) job: UploadJob,
}

/// A thread's share of the work.
pub(super) struct Reader {
    pub(super) root: SourceRoot,
    pub(super) block_size: Option<u32>,
    pub(super) recipes: Arc<RecipeStore>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) runtime: Handle,
    pub(super) stop: CancellationToken,
}

impl Reader {
    pub(super) fn work(&self, job: &Job) {
        let outcome = match self.read(job) {
            Ok((found, digest)) => {
                // The engine hears of it before the server can answer.
                if !self.tell(
                    job,
                    ReadOutcome::Sent {
                        found: found.clone(),
                        digest,
                    },
                ) {
                    return;
                }
                let FoundKind::File { size } = found.kind else {
                    return;
                };
                let close = Request::UploadClose {
                    upload: job.job.upload,
                    size,
                };
                drop(
                    job.link
                        .outbox
                        .bulk
                        .blocking_send(Outgoing::new(&close, digest.0.to_vec())),
                );
                return;
            }
            Err(Stop::Outcome(outcome)) => outcome,
            Err(Stop::Silent) => return,
        };
        self.tell(job, outcome);
    }

    fn tell(&self, job: &Job, outcome: ReadOutcome) -> bool {
        let input = Input::Read {
            epoch: job.link.epoch,
            upload: job.job.upload,
            outcome,
        };
        self.inputs.blocking_send(input).is_ok()
    }

    fn read(&self, job: &Job) -> Result<(Found, Digest), Stop> {
        let (mut file, found) = self
            .root
            .open_file(&job.job.place, &job.job.name)
            .map_err(refused)?;
        let FoundKind::File { size } = found.kind else {
            return Err(changed());
        };
        let mut buffer = vec![0u8; CHUNK];
        if job.job.known.iter().any(|(known, _)| *known == size) && !self.shows(job, size) {
            let digest = self.recognise(job, &mut file, &found, &mut buffer)?;
            if job.job.known.contains(&(size, digest)) {
                return Err(Stop::Outcome(ReadOutcome::Known { found, digest }));
            }
            file.rewind().map_err(|error| failed(&error))?;
        }
        let old = self.old(job, size);
        let paths = (old.base, &job.job.path);
        let upload = job.job.upload;
        let mut sender = Sender::new(&job.link, &self.runtime, upload, paths, old.leftover);
        let sent = self.send((&mut file, &found, &mut buffer), old.recipe, &mut sender);
        let sent = match sent {
            Ok(encoded) if !sender.has_begun() => {
                let digest = encoded.digest;
                if job.job.known.contains(&(size, digest)) {
                    return Err(Stop::Outcome(ReadOutcome::Known { found, digest }));
                }
                sender.all_of_it(size).map(|()| encoded)
            }
            sent => sent,
        };
        if let Err(Stop::Outcome(_)) = &sent {
            sender.abort()?;
        }
        let encoded = sent?;
        self.recipes.put(encoded.digest, Arc::new(encoded.recipe));
        Ok((found, encoded.digest))
    }

    /// Sends the file, or what differs from its old version.
    fn send(
        &self,
        (file, found, buffer): (&mut File, &Found, &mut [u8]),
        old: Option<Arc<Recipe>>,
        sender: &mut Sender<'_>,
    ) -> Result<Encoded, Stop> {
        let FoundKind::File { size } = found.kind else {
            return Err(changed());
        };
        let mut encoder = match old {
            Some(recipe) => DeltaEncoder::against(recipe),
            None => {
                let block = block_size_or(self.block_size, size);
                DeltaEncoder::fresh(block, seed())
            }
        };
        encoder.expect(size);
        let end = self.pass(file, found, buffer, |piece| {
            let mut sent = Ok(());
            encoder.push(piece, &mut |instruction| {
                if sent.is_ok() {
                    sent = sender.instruction(&instruction);
                }
            });
            sent
        })?;
        let mut sent = Ok(());
        let encoded = encoder.finish(&mut |instruction| {
            let all = Instruction::Copy {
                offset: 0,
                length: size,
            };
            // What is the old content and nothing else may be no upload at all.
            if sent.is_ok() && (sender.has_begun() || instruction != all) {
                sent = sender.instruction(&instruction);
            }
        });
        sent?;
        sender.flush()?;
        if end == End::Grown {
            self.check_prefix(file, found, buffer, encoded.digest)?;
        }
        Ok(encoded)
    }

    /// Whether sending a file shows by itself that the server has it as it is: all of it is a copy then, of the version
    /// whose recipe is here.
    fn shows(&self, job: &Job, size: u64) -> bool {
        let resumes = job.job.resume && job.link.resumes;
        let block = block_size_or(self.block_size, size);
        !resumes
            && job.job.base.as_ref().is_some_and(|(_, digest)| {
                let recipe = self.recipes.get(digest);
                recipe.is_some_and(|recipe| recipe.size() == size && recipe.suits(size, block))
            })
    }

    /// The digest of a file that the server may hold as it is. If it does, its recipe is needed at the next change: it is
    /// made now, unless there is one.
    fn recognise(
        &self,
        job: &Job,
        file: &mut File,
        found: &Found,
        buffer: &mut [u8],
    ) -> Result<Digest, Stop> {
        let FoundKind::File { size } = found.kind else {
            return Err(changed());
        };
        let known = job.job.known.iter().map(|(_, digest)| digest);
        if known
            .clone()
            .any(|digest| self.recipes.get(digest).is_some())
        {
            let mut hasher = ContentHasher::new();
            self.pass(file, found, buffer, |piece| {
                hasher.update(piece);
                Ok(())
            })?;
            return Ok(hasher.finish().1);
        }
        let block = block_size_or(self.block_size, size);
        let mut encoder = DeltaEncoder::fresh(block, seed());
        encoder.expect(size);
        self.pass(file, found, buffer, |piece| {
            encoder.push(piece, &mut |_| {});
            Ok(())
        })?;
        let encoded = encoder.finish(&mut |_| {});
        if known.into_iter().any(|digest| *digest == encoded.digest) {
            self.recipes.put(encoded.digest, Arc::new(encoded.recipe));
        }
        Ok(encoded.digest)
    }

    /// What the server has that the file can be made of.
    fn old<'a>(&self, job: &'a Job, size: u64) -> Old<'a> {
        let block = block_size_or(self.block_size, size);
        let base = job.job.base.as_ref().and_then(|(path, digest)| {
            let ask = || ask(job, path, (block, seed()), false, &self.runtime);
            let recipe = self.recipes.get(digest);
            let recipe = recipe.filter(|recipe| recipe.suits(size, block));
            Some((path, recipe.or_else(|| Some(Arc::new(ask()?.0)))?))
        });
        let in_view = Old {
            base: base.as_ref().map(|(path, _)| *path),
            recipe: base.map(|(_, recipe)| recipe),
            leftover: None,
        };
        if !job.job.resume || !job.link.resumes {
            return in_view;
        }
        let recipe = in_view.recipe.as_ref();
        let kind = recipe.map_or_else(|| (block, seed()), |old| (old.block(), old.seed()));
        let Some((left, Some(mark))) = ask(job, &job.job.path, kind, true, &self.runtime) else {
            return in_view;
        };
        let (all, length) = match recipe.map(|old| left.continued_by(old)) {
            Some(Some(continued)) => continued,
            Some(None) => return in_view,
            None => {
                let size = left.size();
                (left, size)
            }
        };
        tracing::debug!(path = %job.job.path, bytes = length, "an upload goes on");
        Old {
            recipe: Some(Arc::new(all)),
            leftover: Some(Continued { mark, length }),
            ..in_view
        }
    }

    /// Feeds as many bytes of a file as it had, in chunks from front to back, and says whether it is still the same or
    /// has only grown. It is an error if it changed in any other way.
    fn pass(
        &self,
        file: &mut File,
        found: &Found,
        buffer: &mut [u8],
        mut feed: impl FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<End, Stop> {
        let FoundKind::File { size } = found.kind else {
            return Err(changed());
        };
        let (mut left, mut chunks) = (size, 0usize);
        while left > 0 {
            if self.stop.is_cancelled() {
                return Err(Stop::Silent);
            }
            let wanted = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let chunk = buffer.get_mut(..wanted).unwrap_or_default();
            let filled = fill(file, chunk).map_err(|error| failed(&error))?;
            if filled < wanted {
                return Err(changed());
            }
            left -= filled as u64;
            chunks += 1;
            if chunks.is_multiple_of(CHECK) {
                still(file, found)?;
            }
            feed(chunk)?;
        }
        // After the last byte went: what was hashed and sent is one version of the file.
        still(file, found)
    }

    /// A file that is appended to without rest never is the same before and after. But if its first bytes are the
    /// same when they are read again, they were one version of it.
    fn check_prefix(
        &self,
        file: &mut File,
        found: &Found,
        buffer: &mut [u8],
        digest: Digest,
    ) -> Result<(), Stop> {
        file.rewind().map_err(|error| failed(&error))?;
        let mut hasher = ContentHasher::new();
        self.pass(file, found, buffer, |piece| {
            hasher.update(piece);
            Ok(())
        })?;
        if hasher.finish().1 == digest {
            Ok(())
        } else {
            Err(changed())
        }
    }
}

/// Asks the server for the recipe of its version of a file, where this side has lost it, or of what an upload has left of
/// one. The size of its blocks and the seed are this side's choice.
fn ask(
    job: &Job,
    path: &RelPath,
    (block, seed): (u32, u64),
    leftover: bool,
    runtime: &Handle,
) -> Option<Answer> {
    let id = job.job.upload;
    let answer = job.link.asked.expect(id, block, seed);
    let request = Request::Recipe {
        id,
        path: WirePath::from(path),
        block,
        seed,
        leftover,
    };
    let frame = Outgoing::new(&request, Vec::new());
    // What was given up is left when the server has heard so, which is told by the queue for large files.
    let queue = if leftover {
        &job.link.outbox.bulk
    } else {
        &job.link.outbox.urgent
    };
    queue.blocking_send(frame).ok()?;
    runtime.block_on(answer).ok()
}

fn seed() -> u64 {
    random::bytes::<8>().map(u64::from_le_bytes).unwrap_or(1)
}
