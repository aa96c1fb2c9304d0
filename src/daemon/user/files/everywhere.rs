//! The same done on several servers at once, each by itself: one that fails stops no other.

use super::watching::Watcher;
use super::{Event, FileError, SendOptions, Source, upload};
use crate::daemon::user::Way;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Does something for each of several servers at once. What it came to, in their order.
pub async fn everywhere<M, T, F>(
    members: impl IntoIterator<Item = M>,
    act: impl Fn(usize, M) -> F,
) -> Vec<Result<T, FileError>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, FileError>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut results = Vec::new();
    for (index, member) in members.into_iter().enumerate() {
        let work = act(index, member);
        tasks.spawn(async move { (index, work.await) });
        results.push(Err(FileError::Other(
            "a part of the program failed unexpectedly".to_owned(),
        )));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Ok((index, result)) = ended
            && let Some(slot) = results.get_mut(index)
        {
            *slot = result;
        }
    }
    results
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
