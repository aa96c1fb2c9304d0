//! Recipes that were asked of the server, on their way in.

use crate::delta::{Recipe, RecipeCollector};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// The recipes that one session waits for, by the id of the request.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Asked(Mutex<Option<HashMap<u64, Waiting>>>);

/// A recipe, and the mark of the leftover that it is of.
pub(in crate::daemon) type Answer = (Recipe, Option<u64>);

#[derive(Debug)]
struct Waiting {
    block: u32,
    seed: u64,
    collector: Option<RecipeCollector>,
    reply: oneshot::Sender<Answer>,
}

impl Asked {
    pub(in crate::daemon) fn new() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    /// Waits for the recipe of a request that is about to be sent. The answer never comes when there is none or the
    /// session ends.
    pub(in crate::daemon) fn expect(
        &self,
        id: u64,
        block: u32,
        seed: u64,
    ) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            block,
            seed,
            collector: None,
            reply,
        };
        self.with(|all| all.insert(id, waiting));
        answer
    }

    /// Takes a part in, of a request and the leftover that it is about. What does not hang together ends the waiting.
    pub(in crate::daemon) fn part(
        &self,
        (id, mark): (u64, Option<u64>),
        size: u64,
        last: bool,
        failed: bool,
        body: &[u8],
    ) {
        self.with(|all| {
            let mut waiting = all.remove(&id)?;
            if failed {
                return None;
            }
            let collector = match waiting.collector.take() {
                Some(collector) => Ok(collector),
                None => RecipeCollector::new(size, waiting.block, waiting.seed),
            };
            let mut collector = collector.ok()?;
            collector.push(body).ok()?;
            if last {
                drop(waiting.reply.send((collector.finish().ok()?, mark)));
                return None;
            }
            waiting.collector = Some(collector);
            all.insert(id, waiting)
        });
    }

    /// The session is over: nothing comes any more.
    pub(in crate::daemon) fn close(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn with(&self, work: impl FnOnce(&mut HashMap<u64, Waiting>) -> Option<Waiting>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(all.as_mut().and_then(work));
    }
}

#[cfg(test)]
mod tests {
    use super::Asked;
    use crate::delta::{RecipeBuilder, pack_blocks};

    #[test]
    fn a_recipe_comes_in_parts_and_nothing_after_the_end() {
        let mut builder = RecipeBuilder::new(4096, 7);
        builder.update(&[1; 10_000]);
        let recipe = builder.finish();
        let asked = Asked::new();
        let mut answer = asked.expect(3, 4096, 7);
        for (part, last) in [
            (&recipe.blocks()[..2], false),
            (&recipe.blocks()[2..], true),
        ] {
            let mut body = Vec::new();
            pack_blocks(part, &mut body);
            asked.part((3, Some(9)), 10_000, last, false, &body);
        }
        assert_eq!(answer.try_recv().unwrap(), (recipe, Some(9)));
        let mut never = asked.expect(4, 4096, 7);
        asked.part((4, None), 10_000, false, false, &[0; 3]);
        assert!(never.try_recv().is_err());
        asked.close();
        assert!(asked.expect(5, 4096, 7).try_recv().is_err());
    }
}
