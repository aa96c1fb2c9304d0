//! The search for old blocks in a new content.
//!
//! At every place the cheap questions come first: is it the old block that follows the last copy; the old block of the
//! same offset; any old block (at offsets that are multiples of the block size, whose hashes are known from the new
//! recipe). Only then a window rolls byte by byte, at most to the next such offset, where the questions are asked again.
//! A single block that changed between two that did not is not searched at all, and where nothing was found for
//! `PATIENCE` blocks only every eighth is, until something is: old content that goes on costs some blocks more.
//!
//! Work is linear in the new content whatever the contents are: a false alarm of the weak sum costs a block's worth of
//! `credit`, which rolling earns; without credit the window jumps to the next multiple of the block size.

use std::sync::Arc;

use crate::delta::fine::Fine;
use crate::delta::lookup::{Lookup, whole_blocks};
use crate::delta::recipe::{Block, Recipe, strong};
use crate::delta::rolling::{Rolling, Window, weak};

/// Blocks' worth of false alarms that are free.
const FREE_ALARMS: u64 = 64;
/// Bytes that false alarms may hash for each byte that was rolled over.
const CREDIT_PER_BYTE: u64 = 2;

/// Blocks that are rolled over without a match before only every `SPARSE`-th is.
const PATIENCE: u64 = 1024;
const SPARSE: usize = 8;

/// How much a search did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Strong hashes of windows, those of the new recipe not counted.
    pub strong_hashes: u64,
    /// Bytes that a window rolled over.
    pub rolled_bytes: u64,
}

/// What a search says of the next bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// More bytes are needed.
    Wait,
    /// So many bytes are new.
    Literal(usize),
    /// So many bytes are new, and then comes a block of the old content.
    Copy {
        skipped: usize,
        offset: u64,
        length: usize,
    },
    /// A block of the old content, changed: of its parts those of the bits are the old ones.
    Parts { offset: u64, alike: u16 },
}

/// The bytes of the new content from where the search stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// Where they start in the new content.
    pub(crate) at: u64,
    pub(crate) bytes: &'a [u8],
    /// The hashes of the new content's blocks; at least of all whole ones up to the end of `bytes`.
    pub(crate) fresh: &'a [Block],
    /// The sums of their parts, if they are kept.
    pub(crate) fine: &'a [Fine],
    /// Whether nothing follows.
    pub(crate) end: bool,
}

/// A search along a new content.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    old: Arc<Recipe>,
    rolling: Rolling,
    /// Made when first needed.
    search: Option<Box<(Lookup, Window)>>,
    /// The old block after the last copy.
    expected: Option<usize>,
    /// The sum of the window where the search stands, when it rolled there.
    sum: Option<u64>,
    credit: u64,
    /// Bytes rolled over since the last copy.
    fruitless: u64,
    work: Work,
}

impl Matcher {
    pub(crate) fn new(old: Arc<Recipe>) -> Self {
        Self {
            rolling: Rolling::new(old.seed()),
            search: None,
            expected: Some(0),
            sum: None,
            credit: FREE_ALARMS * u64::from(old.block()),
            fruitless: 0,
            work: Work::default(),
            old,
        }
    }

    pub(crate) fn work(&self) -> Work {
        self.work
    }

    /// What comes next. After a `Literal` or `Copy` the view goes on behind it. `Wait` leaves fewer bytes than two blocks.
    pub(crate) fn step(&mut self, view: View<'_>) -> Step {
        let block = self.old.block() as usize;
        let here = self.number_at(view.at);
        if let Some(number) = self.known(view, here) {
            return self.copy(0, number);
        }
        let Some(window) = view.bytes.get(..block) else {
            return self.last(view);
        };
        self.expected = None;
        if let Some(fresh) = here.and_then(|number| view.fresh.get(number)) {
            if let Some(number) = self.find(fresh.weak, &fresh.strong) {
                return self.copy(0, number);
            }
            if let Some(parts) = self.parts(view, here) {
                return parts;
            }
            let skips = match self.is_single(view, here) {
                None => return Step::Wait,
                Some(single) => single || self.is_sparse(here),
            };
            if skips {
                self.sum = None;
                return Step::Literal(block);
            }
            let sum = self.sum.unwrap_or_else(|| self.rolling.sum(window));
            return self.roll(view, sum);
        }
        if let Some(sum) = self.sum {
            return self.roll(view, sum);
        }
        let sum = self.rolling.sum(window);
        match self.confirm(window, sum) {
            Alarm::Match(number) => self.copy(0, number),
            Alarm::False | Alarm::Ignored => self.roll(view, sum),
        }
    }

    /// The old block that follows the last copy, or lies at the same offset, if it is here.
    fn known(&mut self, view: View<'_>, here: Option<usize>) -> Option<usize> {
        let expected = self.expected;
        let own = here.filter(|_| expected != here);
        [expected, own]
            .into_iter()
            .flatten()
            .find(|number| self.is_here(view, here, *number))
    }

    /// Whether the bytes here start with an old block.
    fn is_here(&mut self, view: View<'_>, here: Option<usize>, number: usize) -> bool {
        let Some(wanted) = self.old.blocks().get(number).copied() else {
            return false;
        };
        let length = self.length(number);
        let Some(window) = view.bytes.get(..length) else {
            return false;
        };
        let whole = length == self.old.block() as usize;
        match here.and_then(|here| view.fresh.get(here)).filter(|_| whole) {
            Some(fresh) => fresh.strong == wanted.strong,
            None => self.hash(window) == wanted.strong,
        }
    }

    /// Whether the block here is the old one of its offset with some parts changed.
    fn parts(&mut self, view: View<'_>, here: Option<usize>) -> Option<Step> {
        let number = here.filter(|number| *number < whole_blocks(&self.old).len())?;
        let alike = self.old.fine().get(number)?.alike(view.fine.get(number)?)?;
        let offset = number as u64 * u64::from(self.old.block());
        self.found(number);
        Some(Step::Parts { offset, alike })
    }

    /// Whether the next block is the old one of its offset, so that only this one changed; `None` while that is unknown.
    fn is_single(&self, view: View<'_>, here: Option<usize>) -> Option<bool> {
        let next = here.map_or(usize::MAX, |here| here.saturating_add(1));
        let Some(old) = whole_blocks(&self.old).get(next) else {
            return Some(false);
        };
        match view.fresh.get(next) {
            Some(fresh) => Some(fresh.strong == old.strong),
            None if view.end => Some(false),
            None => None,
        }
    }

    /// Whether the block here is left out because rolling found nothing for long.
    fn is_sparse(&self, here: Option<usize>) -> bool {
        let patience = PATIENCE * u64::from(self.old.block());
        self.fruitless > patience && here.is_some_and(|here| !here.is_multiple_of(SPARSE))
    }

    /// Rolls from here, where the sum is `sum` and nothing was found, to a match or to the next multiple of the block size.
    fn roll(&mut self, view: View<'_>, mut sum: u64) -> Step {
        let block = self.old.block() as usize;
        let limit = self.to_multiple(view.at).min(view.bytes.len() - block);
        self.sum = Some(sum);
        if limit == 0 {
            return if view.end {
                Step::Literal(1)
            } else {
                Step::Wait
            };
        }
        let mut at = 0;
        loop {
            let leaving = view.bytes.get(at..limit).unwrap_or_default();
            let entering = view
                .bytes
                .get(at + block..limit + block)
                .unwrap_or_default();
            let (lookup, window) = self.search();
            let stop = window.scan(sum, (leaving, entering), lookup.filter());
            at += stop.moved;
            sum = stop.sum;
            self.earn(stop.moved);
            if !stop.hit {
                self.sum = Some(sum);
                return Step::Literal(limit);
            }
            let window = view.bytes.get(at..at + block).unwrap_or_default();
            match self.confirm(window, sum) {
                Alarm::Match(number) => return self.copy(at, number),
                Alarm::False => {}
                Alarm::Ignored => {
                    self.sum = None;
                    return Step::Literal(limit);
                }
            }
        }
    }

    /// Asks what a weak sum means that may be in the table.
    fn confirm(&mut self, window: &[u8], sum: u64) -> Alarm {
        let (lookup, _) = self.search();
        if lookup.numbers(weak(sum)).next().is_none() {
            return Alarm::False;
        }
        let cost = u64::from(self.old.block());
        let Some(credit) = self.credit.checked_sub(cost) else {
            return Alarm::Ignored;
        };
        let strong = self.hash(window);
        match self.find(weak(sum), &strong) {
            Some(number) => Alarm::Match(number),
            None => {
                self.credit = credit;
                Alarm::False
            }
        }
    }

    /// What comes at the end, where no whole block fits: perhaps the old content's short last one.
    fn last(&mut self, view: View<'_>) -> Step {
        if !view.end {
            return Step::Wait;
        }
        let whole = Step::Literal(view.bytes.len());
        let number = whole_blocks(&self.old).len();
        let Some(wanted) = self.old.blocks().get(number).copied() else {
            return whole;
        };
        let Some(skipped) = view.bytes.len().checked_sub(self.length(number)) else {
            return whole;
        };
        let tail = view.bytes.get(skipped..).unwrap_or_default();
        if self.hash(tail) == wanted.strong {
            self.copy(skipped, number)
        } else {
            whole
        }
    }

    /// An old block by both hashes.
    fn find(&mut self, weak: u32, strong: &[u8; 16]) -> Option<usize> {
        let old = Arc::clone(&self.old);
        let (lookup, _) = self.search();
        lookup.numbers(weak).find(|number| {
            let block = old.blocks().get(*number);
            block.is_some_and(|block| block.strong == *strong)
        })
    }

    fn found(&mut self, number: usize) {
        self.expected = Some(number + 1);
        self.sum = None;
        self.fruitless = 0;
    }

    fn copy(&mut self, skipped: usize, number: usize) -> Step {
        self.found(number);
        Step::Copy {
            skipped,
            offset: number as u64 * u64::from(self.old.block()),
            length: self.length(number),
        }
    }

    fn earn(&mut self, rolled: usize) {
        let rolled = rolled as u64;
        self.work.rolled_bytes += rolled;
        self.fruitless += rolled;
        let most = FREE_ALARMS * u64::from(self.old.block());
        self.credit = (self.credit + rolled * CREDIT_PER_BYTE).min(most);
    }

    fn hash(&mut self, bytes: &[u8]) -> [u8; 16] {
        self.work.strong_hashes += 1;
        strong(bytes)
    }

    fn search(&mut self) -> &(Lookup, Window) {
        self.search.get_or_insert_with(|| {
            let window = self.rolling.window(self.old.block());
            Box::new((Lookup::new(&self.old), window))
        })
    }

    /// The number of the block that starts at an offset, if one does.
    fn number_at(&self, at: u64) -> Option<usize> {
        let block = u64::from(self.old.block());
        usize::try_from(at / block)
            .ok()
            .filter(|_| at.is_multiple_of(block))
    }

    /// How far it is to the next multiple of the block size; at least 1.
    fn to_multiple(&self, at: u64) -> usize {
        let block = u64::from(self.old.block());
        usize::try_from(block - at % block).unwrap_or(usize::MAX)
    }

    /// The length of an old block.
    fn length(&self, number: usize) -> usize {
        let block = u64::from(self.old.block());
        let left = self.old.size().saturating_sub(number as u64 * block);
        usize::try_from(left.min(block)).unwrap_or(usize::MAX)
    }
}

/// What a sum that may be in the table turned out to be.
enum Alarm {
    Match(usize),
    False,
    /// There was no credit left to look.
    Ignored,
}
