//! A server that believes nothing: a map from paths to entries that checks each operation's preconditions.

use super::*;

/// A server that believes nothing.
#[derive(Debug, Default)]
pub(super) struct NaiveServer {
    pub(super) entries: BTreeMap<Vec<u8>, Entry>,
    pub(super) uploads: HashMap<u64, (u64, Digest)>,
    pub(super) moves: usize,
    pub(super) contents: usize,
    /// So many operations are refused, each once.
    pub(super) refusals: usize,
}

fn below(path: &[u8], dir: &[u8]) -> bool {
    path == dir
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.first() == Some(&b'/'))
}

impl NaiveServer {
    pub(super) fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in &self.entries {
            let (dir, entry_name) = RelPath::new(path).unwrap().split().unwrap();
            let dir = tree.lookup(&dir).expect("a parent of everything");
            tree.put(dir, &entry_name, entry.clone(), None).unwrap();
        }
        tree
    }

    pub(super) fn remove(&mut self, path: &[u8]) {
        self.entries.retain(|other, _| !below(other, path));
    }

    pub(super) fn place(&mut self, path: &[u8], entry: Entry) -> Result<(), String> {
        let parent = RelPath::new(path).unwrap().split().unwrap().0;
        let is_dir = parent.is_root()
            || self
                .entries
                .get(parent.as_bytes())
                .is_some_and(Entry::is_dir);
        if !is_dir {
            return Err(format!("no parent of {}", String::from_utf8_lossy(path)));
        }
        let keep = entry.is_dir() && self.entries.get(path).is_some_and(Entry::is_dir);
        if !keep {
            self.remove(path);
        }
        self.entries.insert(path.to_vec(), entry);
        Ok(())
    }

    pub(super) fn take(&mut self, path: &[u8]) -> Vec<(Vec<u8>, Entry)> {
        let taken: Vec<_> = self
            .entries
            .iter()
            .filter(|(p, _)| below(p, path))
            .map(|(p, e)| (p[path.len()..].to_vec(), e.clone()))
            .collect();
        self.remove(path);
        taken
    }

    pub(super) fn give(&mut self, path: &[u8], taken: Vec<(Vec<u8>, Entry)>) {
        for (rest, entry) in taken {
            self.entries.insert([path, &rest].concat(), entry);
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm an operation")]
    pub(super) fn apply(&mut self, op: &Op, body: &mut BodyReader<'_>) -> Result<(), String> {
        if self.refusals > 0 {
            self.refusals -= 1;
            return Err("refused".to_owned());
        }
        let bytes = |path: &WireBytes| path.bytes().unwrap();
        match op {
            Op::Put {
                path,
                mode,
                mtime,
                size,
                content,
            } => {
                let digest_sent = body.digest().unwrap();
                let (have_size, have) = match content {
                    Content::Inline {} => {
                        self.contents += 1;
                        let content = body.take(usize::try_from(*size).unwrap()).unwrap();
                        (*size, digest(content))
                    }
                    Content::Upload { upload } => {
                        self.contents += 1;
                        self.uploads.remove(upload).ok_or("no such upload")?
                    }
                    Content::Copy { from } => match self.entries.get(&bytes(from)).map(|e| &e.kind)
                    {
                        Some(Kind::File { size, digest }) => (*size, *digest),
                        _ => return Err("nothing to copy".to_owned()),
                    },
                };
                if (have_size, have) != (*size, digest_sent) {
                    return Err("wrong digest".to_owned());
                }
                let kind = Kind::File {
                    size: *size,
                    digest: have,
                };
                self.place(
                    &bytes(path),
                    Entry {
                        kind,
                        mode: *mode,
                        mtime: mtime.mtime(),
                    },
                )
            }
            Op::Mkdir { path, mode, mtime } => {
                let entry = Entry {
                    kind: Kind::Directory,
                    mode: *mode,
                    mtime: mtime.mtime(),
                };
                self.place(&bytes(path), entry)
            }
            Op::Symlink {
                path,
                target,
                mtime,
            } => {
                let kind = Kind::Symlink {
                    target: target.bytes().unwrap().into(),
                };
                self.place(
                    &bytes(path),
                    Entry {
                        kind,
                        mode: 0,
                        mtime: mtime.mtime(),
                    },
                )
            }
            Op::Attributes { path, mode, mtime } => {
                let entry = self
                    .entries
                    .get_mut(&bytes(path))
                    .ok_or("nothing to change")?;
                (entry.mode, entry.mtime) = (*mode, mtime.mtime());
                Ok(())
            }
            Op::Delete { path } => {
                self.remove(&bytes(path));
                Ok(())
            }
            Op::Rename { from, to } => {
                let (from, to) = (bytes(from), bytes(to));
                let entry = self.entries.get(&from).cloned().ok_or("nothing to move")?;
                assert!(!below(&to, &from), "a move into itself");
                let taken = self.take(&from);
                self.place(&to, entry)?;
                self.remove(&to);
                self.give(&to, taken);
                self.moves += 1;
                Ok(())
            }
            Op::Exchange { a, b } => {
                let (a, b) = (bytes(a), bytes(b));
                if !self.entries.contains_key(&a) || !self.entries.contains_key(&b) {
                    return Err("nothing to exchange".to_owned());
                }
                let (from_a, from_b) = (self.take(&a), self.take(&b));
                self.give(&b, from_a);
                self.give(&a, from_b);
                self.moves += 1;
                Ok(())
            }
        }
    }

    pub(super) fn listing(&self, id: u64, path: &WireBytes) -> (Response, Vec<u8>) {
        let tree = self.tree();
        let dir = tree.lookup(&path.path().unwrap());
        let (mut entries, mut body) = (Vec::new(), BodyWriter::default());
        for (entry, child) in dir
            .and_then(|dir| tree.get(dir))
            .into_iter()
            .flat_map(crate::index::Node::children)
        {
            let node = tree.get(child).unwrap();
            let kind = match &node.entry.kind {
                Kind::Directory => {
                    body.bytes(&node.sum().to_bytes());
                    ListKind::Directory {}
                }
                Kind::File { size, digest } => {
                    body.bytes(&digest.0);
                    ListKind::File { size: *size }
                }
                Kind::Symlink { target } => {
                    body.bytes(&[0; 32]);
                    ListKind::Symlink {
                        target: WireBytes::new(target),
                    }
                }
            };
            let mtime = node.entry.mtime.into();
            entries.push(ListEntry {
                name: WireBytes::new(entry),
                mode: node.entry.mode,
                mtime,
                kind,
            });
        }
        (
            Response::Listing {
                id,
                entries,
                more: None,
                found: dir.is_some(),
            },
            body.finish(),
        )
    }
}
