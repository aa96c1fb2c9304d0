//! A source tree in memory, with the events that a watcher would give.

use crate::debounce::Hint;
use crate::engine::source::{Found, FoundKind};
use crate::index::{NodeId, Stat};
use crate::model::{Mtime, Name};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// What an inode holds.
#[derive(Clone, Debug)]
pub enum Inode {
    /// Names and their inodes.
    Dir(BTreeMap<Vec<u8>, u64>),
    /// Bytes.
    File(Vec<u8>),
    /// A target.
    Link(Vec<u8>),
    /// Something that is not mirrored.
    Pipe,
}

/// An inode.
#[derive(Clone, Debug)]
pub struct Meta {
    /// What it holds.
    pub inode: Inode,
    /// Permission bits.
    pub mode: u32,
    /// Modification time in seconds; the nanoseconds follow from it.
    pub mtime: i64,
    /// Time of the last change of anything.
    pub ctime: i64,
    /// How many names it has.
    pub links: u32,
}

/// Something that somebody does to a source.
pub type Act = fn(&mut MemSource);

/// A source tree in memory, with the events that a watcher would give.
#[derive(Debug)]
pub struct MemSource {
    /// All inodes; the root is 1.
    pub inodes: HashMap<u64, Meta>,
    /// Which directories are watched, as what.
    pub watched: HashMap<u64, NodeId>,
    /// What the watcher has to tell.
    pub events: VecDeque<(NodeId, Name, Hint)>,
    /// Directories that something came to or went from.
    pub inside: VecDeque<NodeId>,
    /// The next inode.
    pub next: u64,
    /// Counts changes; it is the time too.
    pub clock: i64,
    /// Names that nobody has looked at since they were made.
    pub fresh: HashSet<(u64, Vec<u8>)>,
    /// Those of them through which a file was changed.
    pub hidden: HashSet<(u64, Vec<u8>)>,
    /// A file with several names was changed through a name that came and went before anybody looked. As with inotify,
    /// no event tells of its other names: the next scan finds it.
    pub blind: bool,
    /// What somebody does right after this name was looked at.
    pub race: Option<(&'static [u8], Act)>,
    /// How many directories can be watched.
    pub watches: usize,
    /// Files that cannot be read.
    pub refused: HashSet<u64>,
    /// Directories that are the top of a mounted file system.
    pub mounts: HashSet<u64>,
    /// Something was mounted or unmounted.
    pub mounted: bool,
    /// The directory at the root's path.
    pub root: Option<u64>,
    /// The one that is worked in.
    pub opened: u64,
    /// The file system of the root.
    pub fs: u64,
}

/// A name of an entry.
pub fn name(bytes: &[u8]) -> Name {
    Name::new(bytes).unwrap()
}

impl Default for MemSource {
    fn default() -> Self {
        Self::new()
    }
}

impl MemSource {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        let root = Meta {
            inode: Inode::Dir(BTreeMap::new()),
            mode: 0o755,
            mtime: 0,
            ctime: 0,
            links: 1,
        };
        Self {
            inodes: HashMap::from([(1, root)]),
            watched: HashMap::new(),
            events: VecDeque::new(),
            inside: VecDeque::new(),
            next: 2,
            clock: 1,
            fresh: HashSet::new(),
            hidden: HashSet::new(),
            blind: false,
            race: None,
            watches: usize::MAX,
            refused: HashSet::new(),
            mounts: HashSet::new(),
            mounted: false,
            root: Some(1),
            opened: 1,
            fs: 0,
        }
    }

    /// A new time.
    pub fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    /// The entries of a directory.
    pub fn dir(&mut self, inode: u64) -> &mut BTreeMap<Vec<u8>, u64> {
        match &mut self.inodes.get_mut(&inode).unwrap().inode {
            Inode::Dir(children) => children,
            _ => panic!("no directory"),
        }
    }

    /// All directories, in order.
    pub fn dirs(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .inodes
            .iter()
            .filter(|(_, m)| matches!(m.inode, Inode::Dir(_)))
            .map(|(id, _)| *id)
            .collect();
        all.sort_unstable();
        all
    }

    /// Every name: its directory's inode, the name, its inode.
    pub fn names(&self) -> Vec<(u64, Vec<u8>, u64)> {
        let mut all = Vec::new();
        for dir in self.dirs() {
            if let Inode::Dir(children) = &self.inodes[&dir].inode {
                all.extend(children.iter().map(|(n, i)| (dir, n.clone(), *i)));
            }
        }
        all
    }

    /// Has the watcher tell of a name.
    pub fn event(&mut self, dir: u64, entry: &[u8], hint: Hint) {
        if let Some(node) = self.watched.get(&dir) {
            self.events.push_back((*node, name(entry), hint));
            if matches!(hint, Hint::Gone | Hint::Settled | Hint::Made) {
                self.inside.push_back(*node);
            }
        }
    }

    /// Notes that a file was changed through a name.
    pub fn changed(&mut self, dir: u64, entry: &[u8]) {
        let at = (dir, entry.to_vec());
        if self.fresh.contains(&at) {
            self.hidden.insert(at);
        }
    }

    pub(super) fn looked_at(&mut self, dir: u64, entry: &[u8]) {
        let at = (dir, entry.to_vec());
        self.fresh.remove(&at);
        self.hidden.remove(&at);
    }

    /// A name went; whether its file has others.
    fn vanished(&mut self, dir: u64, entry: &[u8], others: bool) {
        let at = (dir, entry.to_vec());
        self.fresh.remove(&at);
        self.blind |= self.hidden.remove(&at) && others;
    }

    /// Notes that an inode changed.
    pub fn touch(&mut self, inode: u64, content: bool) {
        let now = self.tick();
        let meta = self.inodes.get_mut(&inode).unwrap();
        meta.ctime = now;
        if content {
            meta.mtime = now;
        }
    }

    /// Makes an entry; nothing happens when the name is taken.
    pub fn make(&mut self, dir: u64, entry: &[u8], inode: Inode) {
        if self.dir(dir).contains_key(entry) {
            return;
        }
        let (id, now) = (self.next, self.tick());
        self.next += 1;
        let hint = if matches!(inode, Inode::File(_)) {
            Hint::Settled
        } else {
            Hint::Made
        };
        self.inodes.insert(
            id,
            Meta {
                inode,
                mode: 0o644,
                mtime: now,
                ctime: now,
                links: 1,
            },
        );
        self.dir(dir).insert(entry.to_vec(), id);
        self.fresh.insert((dir, entry.to_vec()));
        self.touch(dir, true);
        self.event(dir, entry, hint);
    }

    /// Removes an entry with all below it.
    pub fn unlink(&mut self, dir: u64, entry: &[u8]) {
        let Some(id) = self.dir(dir).get(entry).copied() else {
            return;
        };
        if let Inode::Dir(children) = &self.inodes[&id].inode {
            for child in children.keys().cloned().collect::<Vec<_>>() {
                self.unlink(id, &child);
            }
        }
        self.dir(dir).remove(entry);
        let meta = self.inodes.get_mut(&id).unwrap();
        meta.links -= 1;
        let others = meta.links > 0;
        self.vanished(dir, entry, others);
        if !others {
            self.inodes.remove(&id);
            self.watched.remove(&id);
        } else {
            self.touch(id, false);
        }
        self.touch(dir, true);
        self.event(dir, entry, Hint::Gone);
    }

    /// Whether an inode is another or below it.
    pub fn within(&self, inode: u64, above: u64) -> bool {
        if inode == above {
            return true;
        }
        match &self.inodes[&above].inode {
            Inode::Dir(children) => children.values().any(|child| self.within(inode, *child)),
            _ => false,
        }
    }

    /// Moves an entry as `rename(2)` does; nothing happens where that fails.
    pub fn rename(&mut self, from: u64, old: &[u8], to: u64, new: &[u8]) {
        let Some(id) = self.dir(from).get(old).copied() else {
            return;
        };
        if self.within(to, id) || (from == to && old == new) {
            return;
        }
        if let Some(there) = self.dir(to).get(new).copied() {
            let dir = |id: u64| matches!(self.inodes[&id].inode, Inode::Dir(_));
            let empty =
                !matches!(&self.inodes[&there].inode, Inode::Dir(children) if !children.is_empty());
            if there == id || dir(there) != dir(id) || !empty {
                return;
            }
            let meta = self.inodes.get_mut(&there).unwrap();
            meta.links -= 1;
            let others = meta.links > 0;
            self.vanished(to, new, others);
            if !others {
                self.inodes.remove(&there);
                self.watched.remove(&there);
            }
        }
        let hidden = self.hidden.remove(&(from, old.to_vec()));
        self.fresh.remove(&(from, old.to_vec()));
        self.fresh.insert((to, new.to_vec()));
        if hidden {
            self.hidden.insert((to, new.to_vec()));
        }
        self.dir(from).remove(old);
        self.dir(to).insert(new.to_vec(), id);
        self.touch(id, false);
        self.touch(from, true);
        self.touch(to, true);
        self.event(from, old, Hint::Gone);
        self.event(to, new, Hint::Settled);
    }

    /// Writes a file anew through one of its names.
    pub fn write(&mut self, dir: u64, entry: &[u8], content: Vec<u8>) {
        let Some(id) = self.dir(dir).get(entry).copied() else {
            return;
        };
        if let Inode::File(old) = &mut self.inodes.get_mut(&id).unwrap().inode {
            *old = content;
            self.touch(id, true);
            self.changed(dir, entry);
            self.event(dir, entry, Hint::Settled);
        }
    }

    /// Sets mode, and the time if one is given, through one of its names.
    pub fn dress(&mut self, dir: u64, entry: &[u8], mode: u32, mtime: Option<i64>) {
        let Some(id) = self.dir(dir).get(entry).copied() else {
            return;
        };
        let meta = self.inodes.get_mut(&id).unwrap();
        meta.mode = mode;
        meta.mtime = mtime.unwrap_or(meta.mtime);
        self.touch(id, false);
        self.changed(dir, entry);
        self.event(dir, entry, Hint::Attributes);
    }

    /// Forgets watches and events: a new client comes.
    pub fn forget_watches(&mut self) {
        self.watched.clear();
        self.events.clear();
        self.inside.clear();
    }

    /// Gives a file another name.
    pub fn link(&mut self, dir: u64, entry: &[u8], id: u64) {
        if self.dir(dir).contains_key(entry) {
            return;
        }
        self.dir(dir).insert(entry.to_vec(), id);
        self.inodes.get_mut(&id).unwrap().links += 1;
        self.fresh.insert((dir, entry.to_vec()));
        self.touch(id, false);
        self.touch(dir, true);
        self.event(dir, entry, Hint::Made);
    }

    /// What `lstat` says of an inode.
    pub fn found(&self, id: u64) -> Found {
        let meta = &self.inodes[&id];
        let kind = match &meta.inode {
            Inode::Dir(_) => FoundKind::Directory,
            Inode::File(content) => FoundKind::File {
                size: content.len() as u64,
            },
            Inode::Link(target) => FoundKind::Symlink {
                target: target.clone().into(),
            },
            Inode::Pipe => FoundKind::Special("a pipe"),
        };
        let link = matches!(kind, FoundKind::Symlink { .. });
        Found {
            kind,
            mode: if link { 0 } else { meta.mode },
            mtime: Mtime {
                secs: meta.mtime,
                nanos: nanos(meta.mtime),
            },
            stat: Stat {
                inode: id,
                birth: 0,
                ctime: meta.ctime,
                links: meta.links,
                mount: self.mounts.contains(&id),
            },
        }
    }
}

fn nanos(secs: i64) -> u32 {
    u32::try_from(secs.unsigned_abs().wrapping_mul(7_919_017) % 1_000_000_000).unwrap_or_default()
}
