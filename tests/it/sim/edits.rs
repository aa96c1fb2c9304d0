//! What happens to the source: one small thing at a time, each content new.

use super::books::Books;
use std::collections::{BTreeMap, HashMap, HashSet};
use syncd::delta::digest;
use syncd::engine::sim::{Dice, Inode, MemSource};

/// An entry: its directory's inode and its name.
type At<'a> = (u64, &'a [u8]);

pub(super) struct Edits {
    /// Whether files get further names.
    pub(super) links: bool,
    number: u64,
    /// Which file an inode is a version of, where that is another than its own.
    files: HashMap<u64, u64>,
    /// The version that an inode is.
    numbers: HashMap<u64, u64>,
}

impl Edits {
    pub(super) fn new(links: bool) -> Self {
        Self {
            links,
            number: 0,
            files: HashMap::new(),
            numbers: HashMap::new(),
        }
    }

    /// Regular files: directory, name, inode.
    pub(super) fn files(&self, source: &MemSource) -> Vec<(u64, Vec<u8>, u64)> {
        let is_file = |id: &u64| matches!(source.inodes[id].inode, Inode::File(_));
        let all = source.names().into_iter();
        all.filter(|(.., id)| is_file(id)).collect()
    }

    /// All paths and what they are entries of.
    pub(super) fn paths(source: &MemSource) -> BTreeMap<Vec<u8>, (u64, Vec<u8>)> {
        let mut all = BTreeMap::new();
        let mut todo = vec![(Vec::new(), 1)];
        while let Some((path, dir)) = todo.pop() {
            let Inode::Dir(children) = &source.inodes[&dir].inode else {
                continue;
            };
            for (name, id) in children {
                let mut below: Vec<u8> = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(name);
                all.insert(below.clone(), (dir, name.clone()));
                todo.push((below, *id));
            }
        }
        all
    }

    /// A new content of a file: of any size, or a change of the old one.
    fn content(&mut self, dice: &mut Dice, books: &mut Books, file: u64, old: &[u8]) -> Vec<u8> {
        self.number += 1;
        let mut bytes = match dice.below(10) {
            0 => Vec::new(),
            1..=5 => vec![b'.'; 8 + dice.below(200)],
            6 => [old, &vec![b'+'; 8 + dice.below(40)]].concat(),
            7 => old[..old.len() / 2].to_vec(),
            8 if old.len() > 65_536 => {
                let mut bytes = old.to_vec();
                let at = dice.below(bytes.len() - 9);
                bytes[at..at + 8].copy_from_slice(&self.number.to_le_bytes());
                bytes
            }
            9 if old.len() > 65_536 => [&old[..40_000], b"inserted", &old[40_000..]].concat(),
            _ if dice.one_in(4) => {
                let mut other = Dice(self.number);
                let words = 8_200 + dice.below(3_000);
                (0..words)
                    .flat_map(|_| other.roll().to_le_bytes())
                    .collect()
            }
            _ => vec![b'-'; 8 + dice.below(500)],
        };
        if !bytes.is_empty() {
            bytes.resize(bytes.len().max(8), 0);
            bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        }
        books.contents.insert(digest(&bytes), (file, self.number));
        bytes
    }

    pub(super) fn write(
        &mut self,
        dice: &mut Dice,
        source: &mut MemSource,
        books: &mut Books,
        (dir, name): At<'_>,
    ) {
        let Some(id) = source.dir(dir).get(name).copied() else {
            return;
        };
        let Inode::File(old) = source.inodes[&id].inode.clone() else {
            return;
        };
        let file = *self.files.get(&id).unwrap_or(&id);
        let content = self.content(dice, books, file, &old);
        self.numbers.insert(id, self.number);
        source.write(dir, name, content);
        self.note(source, books);
    }

    pub(super) fn make(
        &mut self,
        dice: &mut Dice,
        source: &mut MemSource,
        books: &mut Books,
        dir: u64,
    ) {
        let name = name(dice);
        if source.dir(dir).contains_key(&name) {
            return;
        }
        let content = self.content(dice, books, source.next, &[]);
        self.numbers.insert(source.next, self.number);
        source.make(dir, &name, Inode::File(content));
        self.note(source, books);
    }

    /// An editor's save: a new file in the place of an old one.
    fn save(
        &mut self,
        dice: &mut Dice,
        source: &mut MemSource,
        books: &mut Books,
        (dir, name): At<'_>,
    ) {
        let Some(id) = source.dir(dir).get(name).copied() else {
            return;
        };
        let Inode::File(old) = source.inodes[&id].inode.clone() else {
            return;
        };
        let file = *self.files.get(&id).unwrap_or(&id);
        let content = self.content(dice, books, file, &old);
        let new = source.next;
        if source.inodes[&id].links > 1 {
            return;
        }
        source.make(dir, b"saving", Inode::File(content));
        self.files.insert(new, file);
        self.numbers.insert(new, self.number);
        self.note(source, books);
        source.rename(dir, b"saving", dir, name);
        self.note(source, books);
    }

    /// Keeps the books on what is where now.
    fn note(&self, source: &MemSource, books: &mut Books) {
        books.step += 1;
        books.flushes.note(source);
        let mut present = HashMap::new();
        for (path, (dir, name)) in Self::paths(source) {
            let Inode::Dir(children) = &source.inodes[&dir].inode else {
                continue;
            };
            let id = children[&name];
            let meta = &source.inodes[&id];
            if matches!(meta.inode, Inode::File(_)) {
                if meta.links > 1 {
                    books.linked.insert(*self.files.get(&id).unwrap_or(&id));
                }
                let (since, mut all) = books
                    .present
                    .remove(&path)
                    .unwrap_or_else(|| (books.step, HashSet::new()));
                all.extend(self.numbers.get(&id));
                present.insert(path, (since, all));
            }
        }
        for (path, (_, all)) in books.present.drain() {
            books.past.entry(path).or_default().extend(all);
        }
        books.present = present;
    }

    /// One random edit.
    pub(super) fn one(
        &mut self,
        dice: &mut Dice,
        source: &mut MemSource,
        books: &mut Books,
        trace: &mut Vec<String>,
    ) {
        let (dirs, names) = (source.dirs(), source.names());
        let to = dirs[dice.below(dirs.len())];
        let new = name(dice);
        let kind = dice.below(24);
        let Some((dir, old, id)) =
            (!names.is_empty()).then(|| names[dice.below(names.len())].clone())
        else {
            trace.push("-- a first file".to_owned());
            return self.make(dice, source, books, 1);
        };
        trace.push(format!(
            "-- edit {kind}: {dir}/{} (inode {id}), {to}/{}",
            String::from_utf8_lossy(&old),
            String::from_utf8_lossy(&new)
        ));
        match kind {
            0..=3 => self.make(dice, source, books, to),
            4 | 5 => source.make(to, &new, Inode::Dir(BTreeMap::new())),
            6 => source.make(
                to,
                &new,
                Inode::Link(
                    dice.roll().to_le_bytes()[..3]
                        .iter()
                        .map(|b| b | 1)
                        .collect(),
                ),
            ),
            7 | 8 => source.unlink(dir, &old),
            9..=11 => source.rename(dir, &old, to, &new),
            12..=15 => self.write(dice, source, books, (dir, &old)),
            16 | 17 => self.save(dice, source, books, (dir, &old)),
            18 => source.dress(dir, &old, u32::try_from(dice.below(0o1000)).unwrap(), None),
            19 => {
                let time = dice.below(1 << 30) as i64 - (1 << 28);
                source.dress(dir, &old, 0o640, Some(time));
            }
            20 => {
                let (other, name, _) = names[dice.below(names.len())].clone();
                source.rename(dir, &old, 1, b"swapping");
                self.note(source, books);
                source.rename(other, &name, dir, &old);
                self.note(source, books);
                source.rename(1, b"swapping", other, &name);
            }
            21 => {
                source.unlink(dir, &old);
                self.note(source, books);
                match dice.below(3) {
                    0 => source.make(dir, &old, Inode::Dir(BTreeMap::new())),
                    1 => source.make(dir, &old, Inode::Link(b"elsewhere".to_vec())),
                    _ => {
                        let content = self.content(dice, books, source.next, &[]);
                        self.numbers.insert(source.next, self.number);
                        source.make(dir, &old, Inode::File(content));
                    }
                }
            }
            22 if self.links && matches!(source.inodes[&id].inode, Inode::File(_)) => {
                source.link(to, &new, id);
            }
            _ => source.make(to, &new, Inode::Pipe),
        }
        self.note(source, books);
    }
}

fn name(dice: &mut Dice) -> Vec<u8> {
    match dice.below(8) {
        0 => vec![0xff, b'a'],
        1 => b"a\nb".to_vec(),
        n => vec![b'n', b'0' + u8::try_from(n).unwrap()],
    }
}
