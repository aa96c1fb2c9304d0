//! What came of one command on several servers: which of them have done everything, and what failed on the others.

use super::report::{Kind, Report};
use super::using::{self, UseArguments};
use super::{log, overview};
use crate::daemon::user::Connection;
use crate::daemon::user::files::{FileError, everywhere};
use std::sync::Arc;

/// What came of it on one server.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) server: String,
    /// How many paths were done.
    pub(super) done: u64,
    /// The first of those that failed, with why; the path is empty where it is the connection.
    pub(super) failures: Vec<(String, FileError)>,
    /// How many failed.
    pub(super) failed: u64,
}

impl Outcome {
    /// How many failed that are not named.
    fn untold(&self) -> u64 {
        self.failed.saturating_sub(self.failures.len() as u64)
    }
}

/// How a command speaks of failures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    /// What is counted.
    pub(super) noun: &'static str,
    /// What several of them could not be.
    pub(super) what: &'static str,
    /// What is not so on all servers.
    pub(super) not_everywhere: &'static str,
    /// What a server is or has on which nothing failed.
    pub(super) good: &'static str,
    /// What to do about the others.
    pub(super) hint: Option<&'static str>,
}

/// What came of it with the paths of one server: how many were done, and the others.
pub(super) type Tried = (u64, Vec<(String, FileError)>);

/// Does the same on each of the servers that are meant, at once.
pub(super) fn run<F>(
    arguments: UseArguments,
    overrides: &log::Overrides,
    words: Words,
    act: impl Fn(Arc<Connection>) -> F + Clone + Send + 'static,
) -> Result<(), Report>
where
    F: Future<Output = Tried> + Send + 'static,
{
    using::run(arguments, overrides, |way, _| async move {
        let servers = way.servers();
        let tried = everywhere(servers.iter().cloned(), |_, server| {
            let (way, act) = (Arc::clone(&way), act.clone());
            async move {
                let connection = Arc::new(way.connect(&server).await?);
                let tried = act(Arc::clone(&connection)).await;
                if let Some(connection) = Arc::into_inner(connection) {
                    connection.close().await;
                }
                Ok(tried)
            }
        });
        let outcomes = servers.iter().zip(tried.await).map(|(server, tried)| {
            let (done, failures) = match tried {
                Ok(tried) => tried,
                Err(error) => (0, vec![(String::new(), error)]),
            };
            Outcome {
                server: server.clone(),
                done,
                failed: failures.len() as u64,
                failures,
            }
        });
        conclude(&outcomes.collect::<Vec<_>>(), words)
    })
}

/// What all of it comes to: nothing when nothing failed. The failures of one server are told as if there were no other.
pub(super) fn conclude(outcomes: &[Outcome], words: Words) -> Result<(), Report> {
    let lines = |outcome: &Outcome| {
        let failures = outcome.failures.iter();
        let lines = failures.map(|(path, error)| using::line(path, error));
        lines.collect::<Vec<_>>()
    };
    let Some(first) = outcomes.first() else {
        return Ok(());
    };
    let told = lines(first);
    if outcomes.iter().all(|outcome| lines(outcome) == told) {
        // It is no matter of one server.
        return using::conclude(&first.failures, first.untold(), words.what);
    }
    let mut detail = Vec::new();
    for outcome in outcomes {
        let (server, done) = (&outcome.server, outcome.done);
        if outcome.failures.is_empty() {
            detail.push(format!("{server} {}", words.good));
            continue;
        }
        if done > 0 {
            detail.push(format!(
                "{server}: {} done",
                overview::count(done, words.noun)
            ));
        }
        for line in lines(outcome) {
            if line.contains(&**server) {
                detail.push(line);
            } else {
                detail.push(format!("{server}: {line}"));
            }
        }
        let untold = outcome.untold();
        if untold > 0 {
            let more = overview::count(untold, words.noun);
            detail.push(format!("{server}: {more} more {}", words.what));
        }
    }
    let nothing = outcomes
        .iter()
        .all(|it| it.done == 0 && !it.failures.is_empty());
    let kinds = outcomes.iter().flat_map(|it| &it.failures);
    let gravest = kinds
        .map(|(_, error)| using::kind(error))
        .max_by_key(|kind| kind.exit_code());
    let kind = gravest.filter(|_| nothing).unwrap_or(Kind::Problems);
    let report = Report::new(kind, words.not_everywhere).detail(detail);
    Err(match words.hint {
        Some(hint) => report.hint(hint),
        None => report,
    })
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Words, conclude};
    use crate::cli::report::Kind;
    use crate::daemon::client::ClientError;
    use crate::daemon::user::files::FileError;

    #[test]
    fn what_is_not_so_on_all_servers_is_told_of_each() {
        let words = Words {
            noun: "file",
            what: "could not be sent",
            not_everywhere: "not all have all",
            good: "has everything",
            hint: None,
        };
        let lost = |server: &str| {
            FileError::from(ClientError::Lost {
                server: server.to_owned(),
                reason: "it went".to_owned(),
            })
        };
        let other = || FileError::Other("it is there".to_owned());
        let outcome = |server: &str, done, errors: Vec<FileError>| Outcome {
            server: server.to_owned(),
            done,
            failed: errors.len() as u64,
            failures: errors.into_iter().map(|it| ("x".to_owned(), it)).collect(),
        };
        let kind = |outcomes: &[Outcome]| match conclude(outcomes, words) {
            Ok(()) => None,
            Err(report) => Some(report.kind()),
        };
        assert_eq!(
            kind(&[outcome("a", 1, vec![]), outcome("b", 1, vec![])]),
            None
        );
        let none = [
            outcome("a", 0, vec![lost("a")]),
            outcome("b", 0, vec![lost("b")]),
        ];
        assert_eq!(kind(&none), Some(Kind::Unreachable));
        let same = [
            outcome("a", 0, vec![other()]),
            outcome("b", 0, vec![other()]),
        ];
        let text = conclude(&same, words).unwrap_err().text();
        assert_eq!(text, "error: it is there\n");
        let mut some = outcome("c:1", 2, vec![other()]);
        some.failed = 5;
        let all = [
            outcome("a:1", 3, vec![]),
            outcome("b:1", 0, vec![lost("b:1")]),
            some,
        ];
        let report = conclude(&all, words).unwrap_err();
        assert_eq!(report.kind(), Kind::Problems);
        let text = report.text();
        for line in [
            "error: not all have all",
            "  a:1 has everything",
            "  c:1: 2 files done",
            "  c:1: it is there",
            "  c:1: 4 files more could not be sent",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
        assert_eq!(text.matches("b:1").count(), 1, "{text}");
    }
}
