//! The client's engine joined to a source in memory and a naive server.

use super::naive::NaiveServer;
use super::*;

/// The two joined: the line holds messages until they are delivered.
pub(super) struct Bench {
    pub(super) engine: ClientEngine,
    pub(super) source: MemSource,
    pub(super) server: NaiveServer,
    pub(super) line: VecDeque<(Request, Vec<u8>)>,
    pub(super) jobs: VecDeque<UploadJob>,
    pub(super) now: Duration,
    pub(super) failures: usize,
    pub(super) flushed: Vec<u64>,
    pub(super) accepted: Vec<Result<usize, String>>,
    pub(super) trace: Vec<String>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let mut bench = Self {
            engine: ClientEngine::new(
                Settings::default(),
                Some(root_id(1)),
                Tree::new(),
                &Memory::default(),
            ),
            source: MemSource::new(),
            server: NaiveServer::default(),
            line: VecDeque::new(),
            jobs: VecDeque::new(),
            now: Duration::ZERO,
            failures: 0,
            flushed: Vec::new(),
            accepted: Vec::new(),
            trace: Vec::new(),
        };
        bench.connect();
        bench
    }

    pub(super) fn connect(&mut self) {
        let mut out = Vec::new();
        let welcome = Welcome {
            sum: self.server.tree().root_sum(),
            version: 0,
            first_contact: false,
            leftovers: Vec::new(),
        };
        self.engine.connected(&welcome, &mut out);
        self.take(out);
    }

    pub(super) fn cut(&mut self) {
        self.line.clear();
        self.jobs.clear();
        self.server.uploads.clear();
        self.engine.disconnected(self.now);
        self.connect();
    }

    pub(super) fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Send(request, body) => self.line.push_back((request, body)),
                Output::Upload(job) => self.jobs.push_back(job),
                Output::Flushed(token) => self.flushed.push(token),
                Output::Accepted(result) => self.accepted.push(result),
            }
        }
    }

    /// The engine's turn, with the events that came (or without: they are late).
    pub(super) fn step(&mut self, events: bool) -> bool {
        self.now += Duration::from_millis(1);
        if events {
            for (dir, entry, hint) in std::mem::take(&mut self.source.events) {
                self.engine.event(dir, &entry, hint, self.now);
            }
            for dir in std::mem::take(&mut self.source.inside) {
                self.engine.directory_event(dir, Hint::Inside, self.now);
            }
        }
        let mut out = Vec::new();
        let more = self.engine.step(self.now, &mut self.source, &mut out);
        self.take(out);
        more
    }

    pub(super) fn deliver(&mut self) -> bool {
        let Some((request, body)) = self.line.pop_front() else {
            return false;
        };
        let answer = match request {
            Request::Mutate { id, ops, .. } => {
                let mut reader = BodyReader::new(&body);
                let mut failed = Vec::new();
                for (index, op) in ops.iter().enumerate() {
                    self.trace.push(format!("{op:?}"));
                    if let Err(message) = self.server.apply(op, &mut reader) {
                        self.trace.push(format!("  failed: {message}"));
                        self.failures += 1;
                        let index = u32::try_from(index).unwrap();
                        failed.push(Failed {
                            index,
                            code: Code::Fault(Fault::Changed),
                            message,
                        });
                    }
                }
                reader.finish().unwrap();
                Some((
                    Response::Applied {
                        id,
                        version: 1,
                        failed,
                    },
                    Vec::new(),
                ))
            }
            Request::List { id, path, .. } => Some(self.server.listing(id, &path)),
            _ => None,
        };
        if let Some((response, body)) = answer {
            let mut out = Vec::new();
            self.engine
                .response(response, &body, self.now, &mut out)
                .unwrap();
            self.take(out);
        }
        true
    }

    pub(super) fn upload(&mut self) -> bool {
        let Some(job) = self.jobs.pop_front() else {
            return false;
        };
        let read = self.source.read(&job.place, &job.name, u64::MAX);
        let outcome = match &read {
            Ok((found, content)) => {
                let digest = digest(content);
                if job.known.contains(&(content.len() as u64, digest)) {
                    ReadOutcome::Known {
                        found: found.clone(),
                        digest,
                    }
                } else {
                    self.server
                        .uploads
                        .insert(job.upload, (content.len() as u64, digest));
                    ReadOutcome::Sent {
                        found: found.clone(),
                        digest,
                    }
                }
            }
            Err(_) => ReadOutcome::Changed,
        };
        let sent = matches!(outcome, ReadOutcome::Sent { .. });
        let mut out = Vec::new();
        self.engine.upload_read(job.upload, outcome, self.now);
        if sent {
            let staged = Response::Staged {
                upload: job.upload,
                failed: None,
            };
            self.engine
                .response(staged, &[], self.now, &mut out)
                .unwrap();
        }
        self.take(out);
        true
    }

    /// The server's disk is full: it cannot make the first upload that waits.
    pub(super) fn refuse_upload(&mut self) {
        let upload = self.jobs.pop_front().unwrap().upload;
        let failed = Some(Failed {
            index: 0,
            code: Code::Fault(Fault::Full),
            message: "No space left".to_owned(),
        });
        let staged = Response::Staged { upload, failed };
        let mut out = Vec::new();
        self.engine
            .response(staged, &[], self.now, &mut out)
            .unwrap();
        self.take(out);
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..50_000 {
            let more = self.step(true) | self.deliver() | self.upload();
            if !more && self.engine.is_idle() && self.source.events.is_empty() {
                return;
            }
        }
        panic!(
            "it never rests: {:?} {:?}\n{}",
            self.engine.queue,
            self.engine.snapshot(self.now),
            self.trace.join("\n")
        );
    }

    pub(super) fn assert_equal(&self) {
        let expected = self.source.expected();
        let show = |(path, entry): (&Vec<u8>, &Entry)| {
            format!("{} {}", String::from_utf8_lossy(path), brief(entry))
        };
        let server: Vec<String> = self.server.entries.iter().map(show).collect();
        let source: Vec<String> = expected.iter().map(show).collect();
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these
                .iter()
                .filter(|line| !those.contains(line))
                .cloned()
                .collect()
        };
        let (extra, lacking) = (only(&server, &source), only(&source, &server));
        assert!(
            extra.is_empty() && lacking.is_empty(),
            "server only: {extra:#?}\nsource only: {lacking:#?}\n{}",
            self.trace.join("\n")
        );
        assert_eq!(self.engine.view.root_sum(), self.server.tree().root_sum());
    }
}

pub(super) fn brief(entry: &Entry) -> String {
    let kind = match &entry.kind {
        Kind::Directory => "d".to_owned(),
        Kind::File { size, digest } => format!("f{size}:{}", &digest.to_string()[..4]),
        Kind::Symlink { target } => format!("l{target:?}"),
    };
    format!("{kind} {:o} @{}", entry.mode, entry.mtime.secs)
}
