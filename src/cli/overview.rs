//! The status of a daemon as text for a person.

use super::report::printable;
use crate::daemon::status::{
    CacheStatus, ClientStatus, KeysStatus, PathProblem, PeerState, PeerStatus, ServerStatus,
    ShareStatus, Status,
};

/// A block of lines, each with its line feed. No value can forge a line.
#[must_use]
pub fn text(status: &Status) -> String {
    let mut lines = Lines::default();
    match status {
        Status::Server(server) => lines.server(server),
        Status::Client(client) => lines.client(client),
    }
    lines.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, depth: usize, text: &str) {
        self.0.push_str(&"  ".repeat(depth));
        self.0.push_str(&printable(text));
        self.0.push('\n');
    }

    fn server(&mut self, server: &ServerStatus) {
        self.add(0, &format!("server  {}", server.directory));
        self.add(1, &format!("listening on {}", server.listen.join(", ")));
        self.add(1, &format!("id {}", server.server_id));
        if server.shares.is_empty() {
            self.add(1, "no share yet");
        }
        for share in &server.shares {
            self.share(share);
        }
        if let Some(keys) = &server.keys {
            self.keys(keys);
        }
        if let Some(cache) = &server.cache {
            self.cache(cache);
        }
        self.add(
            1,
            &format!("{} connected", count(server.clients.len() as u64, "client")),
        );
        for client in &server.clients {
            let share = share_name(client.share.as_deref());
            let since = age(client.since_ms);
            let (name, address) = (&client.name, &client.address);
            self.add(2, &format!("{name} from {address}, {share}, for {since}"));
        }
    }

    fn cache(&mut self, cache: &CacheStatus) {
        let (files, kept) = (count(cache.entries, "file"), bytes(cache.bytes));
        let used = match cache.hits.saturating_add(cache.misses) {
            0 => "no read".to_owned(),
            reads => {
                let percent = cache.hits.saturating_mul(100) / reads;
                format!("{percent} % of {} from memory", count(reads, "read"))
            }
        };
        let most = bytes(cache.max_bytes);
        let text = format!("cache of {most}: {files}, {kept}; {used} since the start");
        self.add(1, &text);
    }

    fn keys(&mut self, keys: &KeysStatus) {
        let amount = format!("{}, {}", count(keys.keys, "key"), bytes(keys.bytes));
        let used = match (keys.gets, keys.hits) {
            (0, _) => "no get".to_owned(),
            (gets, hits) => format!("{}, {} found", count(gets, "get"), number(hits)),
        };
        let sets = count(keys.sets, "set");
        self.add(1, &format!("{amount}; {used}, {sets} since the start"));
        if let Some(address) = &keys.memcached {
            self.add(2, &format!("memcached listening on {address}"));
        }
        if let Some(reason) = &keys.unavailable {
            self.add(2, &format!("UNAVAILABLE: {reason}"));
        }
    }

    fn share(&mut self, share: &ShareStatus) {
        let name = share_name(share.name.as_deref());
        let writer = match (&share.writer, share.connected) {
            (Some(writer), true) => format!("written by {} from {}", writer.device, writer.source),
            (Some(writer), false) => {
                format!(
                    "written by {} from {}, which is away",
                    writer.device, writer.source
                )
            }
            (None, _) => "no writer yet".to_owned(),
        };
        self.add(1, &format!("{name}: {writer}"));
        self.add(2, &share.path);
        let last = match share.last_commit_age_ms {
            Some(ms) => format!("last change {} ago", age(ms)),
            None => "no change since the start".to_owned(),
        };
        let entries = count(share.entries, "entry");
        let (version, generation) = (number(share.version), &share.generation);
        self.add(
            2,
            &format!("{entries}, version {version} of {generation}, {last}"),
        );
        if let Some(reason) = &share.paused {
            self.add(2, &format!("PAUSED: {reason}"));
        }
        if share.drift > 0 {
            let paths = count(share.drift, "path");
            self.add(
                2,
                &format!("drift: somebody else changed {paths} of the mirror"),
            );
        }
        for kept in &share.kept {
            self.add(2, &format!("kept for 30 days instead of deleted: {kept}"));
        }
        self.problems(2, &share.problems, share.problems.len() as u64);
    }

    fn client(&mut self, client: &ClientStatus) {
        self.add(0, &format!("client  {}", client.source));
        let entries = count(client.entries, "entry");
        let polled = match client.polled {
            0 => String::new(),
            dirs => format!(", {} only looked at from time to time", number(dirs)),
        };
        self.add(
            1,
            &format!(
                "{entries}, {} watched{polled}",
                count(client.watches, "directory")
            ),
        );
        for server in &client.servers {
            self.peer(server, client.problems_total > 0);
        }
        self.problems(1, &client.problems, client.problems_total);
        if client.skipped_total > 0 {
            let shown = shown_of(client.skipped.len(), client.skipped_total);
            self.add(
                1,
                &format!(
                    "skipped by rule: {}{shown}",
                    count(client.skipped_total, "path")
                ),
            );
            for skipped in &client.skipped {
                self.add(2, &format!("{}: {}", skipped.path, skipped.reason));
            }
        }
    }

    /// What goes on with one server, of a client that has paths which cannot be mirrored, or none.
    fn peer(&mut self, peer: &PeerStatus, problems: bool) {
        let state = match peer.state {
            PeerState::Connecting => "connecting",
            PeerState::Comparing => "comparing",
            PeerState::Mirroring => "mirroring",
            PeerState::Idle if peer.held.is_some() => "idle, equal but for what is held",
            PeerState::Idle if problems => "idle, equal but for the problems",
            PeerState::Idle => "idle, equal",
            PeerState::Refused => "refused",
        };
        let share = share_name(peer.share.as_deref());
        self.add(1, &format!("to {}, {share}: {state}", peer.address));
        let lag = match (peer.lag_ms, peer.pending) {
            (0, 0) => "nothing waits".to_owned(),
            (lag, 0) => format!("{} behind", age(lag)),
            (lag, pending) => format!("{} behind, {} waiting", age(lag), count(pending, "path")),
        };
        let (flight, sent) = (bytes(peer.in_flight_bytes), bytes(peer.sent_bytes));
        let files = count(peer.sent_files, "file");
        self.add(
            2,
            &format!("{lag}, {flight} in flight, {sent} in {files} sent"),
        );
        if let Some(held) = &peer.held {
            let entries = count(held.entries, "entry");
            self.add(2, &format!("DELETIONS HELD: {entries}, {}", held.reason));
            self.add(3, &held.advice);
        }
        if let Some(error) = &peer.last_error {
            self.add(2, &format!("last error: {error}"));
        }
        if let Some(ms) = peer.reconnect_in_ms {
            self.add(2, &format!("next attempt in {}", age(ms)));
        }
    }

    fn problems(&mut self, depth: usize, problems: &[PathProblem], total: u64) {
        if total == 0 {
            return;
        }
        let shown = shown_of(problems.len(), total);
        self.add(depth, &format!("PROBLEMS: {}{shown}", count(total, "path")));
        for problem in problems {
            let since = match problem.since_ms {
                Some(ms) => format!(" (for {})", age(ms)),
                None => String::new(),
            };
            let (path, message) = (&problem.path, &problem.message);
            self.add(depth + 1, &format!("{path}: {message}{since}"));
        }
    }
}

/// How a share is called, or the directory itself.
#[must_use]
pub fn share_name(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("share {name}"),
        None => "the directory itself".to_owned(),
    }
}

fn shown_of(shown: usize, total: u64) -> String {
    if (shown as u64) < total {
        format!(", the first {shown}")
    } else {
        String::new()
    }
}

/// `1 path`, `2 paths`, `1,234 entries`, `3 keys`.
#[must_use]
pub fn count(amount: u64, singular: &str) -> String {
    let amount_text = number(amount);
    if amount == 1 {
        return format!("{amount_text} {singular}");
    }
    let plural = match singular.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{singular}s"),
    };
    format!("{amount_text} {plural}")
}

/// A number with a comma between thousands.
#[must_use]
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// An amount of bytes in binary units.
#[must_use]
pub fn bytes(value: u64) -> String {
    bytesize::ByteSize(value).display().iec().to_string()
}

/// A length of time with the precision that matters to a person.
#[must_use]
pub fn age(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} d {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

#[cfg(test)]
mod tests;
