//! The same done on several servers at once, each by itself: one that fails stops no other.

use super::watching::Watcher;
use super::work::unexpected;
use super::{Event, FileError, SendOptions, Source, upload};
use crate::daemon::user::Way;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Does something for each of several servers at once. What it came to, in their order.
pub async fn everywhere<M, T, F>(
    members: impl IntoIterator<Item = M>,
    act: impl Fn(usize, M) -> F,
) -> Vec<Result<T, FileError>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, FileError>> + Send + 'static,
{
    let results = promptly(members, None, act).await;
    let result = |result: Option<_>| result.unwrap_or_else(|| Err(unexpected()));
    results.into_iter().map(result).collect()
}

/// When nobody is waited for any more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// So long after the beginning.
    Whole(Duration),
    /// So long after the first answer.
    AfterOne(Duration),
}

/// The same, without those that are not waited for any longer: they have no result.
pub(super) async fn promptly<M, T, F>(
    members: impl IntoIterator<Item = M>,
    patience: Option<Patience>,
    act: impl Fn(usize, M) -> F,
) -> Vec<Option<Result<T, FileError>>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, FileError>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut results = Vec::new();
    for (index, member) in members.into_iter().enumerate() {
        let work = act(index, member);
        tasks.spawn(async move { (index, work.await) });
        results.push(None);
    }
    let mut end = match patience {
        Some(Patience::Whole(patience)) => Some(Instant::now() + patience),
        _ => None,
    };
    loop {
        let next = tasks.join_next();
        let ended = match end {
            Some(end) => timeout_at(end, next).await.unwrap_or(None),
            None => next.await,
        };
        let Some(ended) = ended else {
            return results;
        };
        let Ok((index, result)) = ended else {
            continue;
        };
        let answered = result
            .as_ref()
            .map_or_else(|error| !error.ends_all(), |_| true);
        if let (true, Some(Patience::AfterOne(patience))) = (answered, patience) {
            end.get_or_insert(Instant::now() + patience);
        }
        if let Some(slot) = results.get_mut(index) {
            *slot = Some(result);
        }
    }
}

/// Sends files to all servers that are meant, to each over connections of its own. What could not be done is told to the
/// watcher, also that a server cannot be reached.
pub async fn upload_everywhere(way: &Arc<Way>, options: SendOptions, watcher: Watcher) {
    let servers = way.servers().iter().cloned();
    let each = options.split(servers.len());
    everywhere(servers.zip(each), |index, (server, options)| {
        let (way, watcher) = (Arc::clone(way), watcher.of(index));
        async move {
            if let Err(error) = upload((&way, &server), options, &watcher).await {
                let (path, error) = (String::new(), FileError::from(error));
                watcher.tell(Event::Failed { path, error }).await;
            }
            Ok(())
        }
    })
    .await;
}

impl SendOptions {
    /// The same for so many servers. What comes from a stream is read once.
    fn split(self, count: usize) -> Vec<Self> {
        if count == 1 {
            return vec![self];
        }
        let mut each: Vec<Self> = Vec::new();
        each.resize_with(count, || Self {
            sources: Vec::new(),
            remote: self.remote.clone(),
            ..self
        });
        for source in self.sources {
            let copies: Vec<Source> = match source {
                Source::Stream(stream) => {
                    let streams = stream.split(count).into_iter();
                    streams.map(Source::Stream).collect()
                }
                Source::Path { path, size } => {
                    let copy = || Source::Path {
                        path: path.clone(),
                        size,
                    };
                    std::iter::repeat_with(copy).take(count).collect()
                }
            };
            for (options, source) in each.iter_mut().zip(copies) {
                options.sources.push(source);
            }
        }
        each
    }
}
