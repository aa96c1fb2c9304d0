//! `syncd bench concurrency`.

use super::data::files_below;
use super::figures::{self, Amount, Run, megabytes};
use super::place::{self, Place, Server, check};
use crate::cli::report::{Kind, Report};
use crate::cli::settings::{absolute, shown};
use crate::cli::transfer::parse_jobs;
use crate::cli::{log, overview, render, report, runtime, sync, using};
use crate::daemon::options::{ServerChoice, UseOptions};
use crate::daemon::user::Way;
use crate::daemon::user::files::{
    self, Argument, Event, Progress, SendOptions, Source, Told, Watcher,
};
use crate::host::dirs::Dirs;
use crate::host::local::{self, Replace};
use clap::Args;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Rounds at most.
const MAX_ROUNDS: u32 = 1000;
/// Events that may wait to be timed.
const WAITING: usize = 4096;
/// How much is read at a time for a sum, in bytes.
const PIECE: usize = 1 << 20;

/// Arguments of `syncd bench concurrency`.
#[derive(Debug, Args)]
pub struct ConcurrencyArguments {
    /// The data set: all files below this directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Files at a time, for each run of a round
    #[arg(short, long, value_name = "N,…", default_value = "1,2,4,8", value_delimiter = ',', value_parser = parse_jobs)]
    jobs: Vec<usize>,
    /// How often each is run
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROUNDS)))]
    rounds: u32,
    /// Also write the figures of every run as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the server has its directory meanwhile (default: beside the data set)
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When there is no data set, or a run failed.
pub fn run(arguments: ConcurrencyArguments, overrides: &log::Overrides) -> Result<(), Report> {
    log::start(&place::quiet(), overrides)?;
    runtime::run(|stop| measure(arguments, stop))
}

/// The data set, with what each file holds.
struct DataSet {
    directory: PathBuf,
    sums: BTreeMap<PathBuf, [u8; 32]>,
    amount: Amount,
}

async fn measure(arguments: ConcurrencyArguments, stop: CancellationToken) -> Result<(), Report> {
    let directory = absolute(&arguments.directory)?;
    let (own, ends) = (directory.clone(), stop.clone());
    let data = Arc::new(blocking(move || DataSet::read(own, &ends)).await?);
    let work = match &arguments.work {
        Some(work) => absolute(work)?,
        None => directory.parent().unwrap_or(&directory).to_owned(),
    };
    let place = Arc::new(Place::below(&work)?);
    let Amount { files, bytes } = data.amount;
    report::note(&[format!(
        "{}, {}; the server is below `{}`",
        overview::count(files, "file"),
        megabytes(bytes),
        shown(place.path())
    )]);
    let mut runs = Vec::new();
    for round in 1..=arguments.rounds {
        let mut jobs = arguments.jobs.clone();
        if round % 2 == 0 {
            jobs.reverse();
        }
        for jobs in jobs {
            check(&stop)?;
            let cleared = Arc::clone(&place);
            blocking(move || cleared.clear()).await?;
            let run = one(&data, place.path(), (round, jobs), &stop).await?;
            report::note(&[format!(
                "round {round} of {}: {} in {:.2} s",
                arguments.rounds,
                overview::count(jobs as u64, "job"),
                run.time.as_secs_f64()
            )]);
            runs.push(run);
        }
    }
    render::print(&figures::table(data.amount, &runs))?;
    if let Some(path) = &arguments.json {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let text = format!("{:#}\n", figures::object(data.amount, &runs, cpus));
        std::fs::write(path, text).map_err(|error| {
            let message = format!("cannot write `{}`", shown(path));
            Report::new(Kind::Storage, message).caused_by(&error)
        })?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Report> + Send + 'static,
) -> Result<T, Report> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| {
        Report::new(Kind::Unexpected, "a part of the benchmark failed").caused_by(&error)
    })?
}

impl DataSet {
    /// Reads all files, which leaves them in memory where there is room.
    fn read(directory: PathBuf, stop: &CancellationToken) -> Result<Self, Report> {
        let (mut sums, mut bytes) = (BTreeMap::new(), 0);
        for (path, size) in files_below(&directory)? {
            check(stop)?;
            let sum = sum_of(&path)?;
            if let Ok(path) = path.strip_prefix(&directory) {
                sums.insert(path.to_owned(), sum);
                bytes += size;
            }
        }
        if sums.is_empty() {
            let message = format!("there are no files in `{}`", shown(&directory));
            let hint = "`syncd bench data` makes some";
            return Err(Report::new(Kind::Usage, message).hint(hint));
        }
        let files = sums.len() as u64;
        Ok(Self {
            directory,
            sums,
            amount: Amount { files, bytes },
        })
    }

    /// Compares a directory with what was sent to it.
    fn verify(&self, share: &Path, stop: &CancellationToken) -> Result<(), Report> {
        for (path, sum) in &self.sums {
            check(stop)?;
            if sum_of(&share.join(path))? != *sum {
                let message = format!("the server holds another `{}`", shown(path));
                return Err(Report::new(Kind::Unexpected, message));
            }
        }
        Ok(())
    }

    /// What is sent: what the directory itself holds, with all below.
    fn sources(&self) -> Result<Vec<Source>, Report> {
        let names = local::names(&self.directory).map_err(|error| {
            let message = format!("cannot read the directory `{}`", shown(&self.directory));
            Report::new(Kind::Storage, message).caused_by(&error)
        })?;
        let source = |name: OsString| Source::Path {
            path: self.directory.join(name),
            size: None,
        };
        Ok(names.into_iter().map(source).collect())
    }
}

fn sum_of(path: &Path) -> Result<[u8; 32], Report> {
    let sum = || -> io::Result<[u8; 32]> {
        let (mut file, mut sum) = (File::open(path)?, Sha256::new());
        let mut buffer = vec![0; PIECE];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(sum.finalize().into()),
                count => sum.update(buffer.get(..count).unwrap_or_default()),
            }
        }
    };
    sum().map_err(|error| {
        Report::new(Kind::Storage, format!("cannot read `{}`", shown(path))).caused_by(&error)
    })
}

/// One run, in an empty place.
async fn one(
    data: &Arc<DataSet>,
    place: &Path,
    (round, jobs): (u32, usize),
    stop: &CancellationToken,
) -> Result<Run, Report> {
    let (below, own) = (place.to_owned(), Arc::clone(data));
    let server = blocking(move || Server::start(&below)).await?;
    let way = enrolled(&server, place).await?;
    let options = SendOptions {
        sources: data.sources()?,
        remote: Argument::parse(&OsString::from("/"))
            .map_err(|error| Report::from_error(Kind::Unexpected, &error))?,
        recursive: true,
        replace: Replace::Refused,
        jobs,
    };
    let (events, queue) = mpsc::channel(WAITING);
    let watcher = Watcher {
        events,
        server: 0,
        progress: Arc::new(Progress::default()),
        stop: stop.child_token(),
    };
    let cpu = || Ok::<_, Report>((place::cpu_time(std::process::id())?, server.cpu_time()?));
    let before = cpu()?;
    let begun = crate::host::clock::monotonic();
    let sent = async {
        let sent = files::upload((&way, server.address()), options, &watcher).await;
        drop(watcher);
        sent
    };
    let (sent, files) = tokio::join!(sent, timed(queue));
    let time = begun.elapsed();
    let after = cpu()?;
    sent.map_err(|error| sync::explain(&error))?;
    check(stop)?;
    let (share, ends) = (place.join("share"), stop.clone());
    blocking(move || own.verify(&share, &ends)).await?;
    server.end().await?;
    Ok(Run {
        round,
        jobs,
        time,
        client_cpu: after.0.saturating_sub(before.0),
        server_cpu: after.1.saturating_sub(before.1),
        files: files?,
    })
}

/// The way to a server, for a device that it knows: to become one is not measured.
async fn enrolled(server: &Server, place: &Path) -> Result<Arc<Way>, Report> {
    let options = UseOptions {
        servers: vec![server.address().to_owned()],
        choice: ServerChoice::Named,
        share: None,
        own: None,
    };
    let dirs = Dirs::below(&place.join("home"));
    let way = Way::find(options, dirs).map_err(|error| sync::explain(&error))?;
    let connection = way.connect(server.address()).await;
    connection
        .map_err(|error| sync::explain(&error))?
        .close()
        .await;
    Ok(Arc::new(way))
}

/// How long each file took; a failure if one could not be sent.
async fn timed(mut queue: mpsc::Receiver<Told>) -> Result<Vec<Duration>, Report> {
    let (mut begun, mut times, mut failures) = (HashMap::new(), Vec::new(), Vec::new());
    while let Some(Told { event, .. }) = queue.recv().await {
        let now = crate::host::clock::monotonic();
        match event {
            Event::Begun { remote, .. } => drop(begun.insert(remote, now)),
            Event::Done(done) => {
                let begin = begun.remove(&done.remote);
                times.extend(begin.map(|begin| now.duration_since(begin)));
            }
            Event::Failed { path, error } => failures.push((path, error)),
        }
    }
    using::conclude(&failures, 0, "could not be sent")?;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::DataSet;
    use tokio_util::sync::CancellationToken;

    #[test]
    fn a_wrong_byte_on_the_server_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (sent, held) = (dir.path().join("sent"), dir.path().join("held"));
        for directory in [&sent, &held] {
            std::fs::create_dir_all(directory.join("below")).unwrap();
            std::fs::write(directory.join("below/file"), "content").unwrap();
        }
        let stop = CancellationToken::new();
        let data = DataSet::read(sent, &stop).unwrap();
        assert_eq!((data.amount.files, data.amount.bytes), (1, 7));
        data.verify(&held, &stop).unwrap();
        std::fs::write(held.join("below/file"), "cOntent").unwrap();
        let found = data.verify(&held, &stop).unwrap_err();
        assert!(found.text().contains("another `below/file`"));
        std::fs::remove_file(held.join("below/file")).unwrap();
        assert!(data.verify(&held, &stop).is_err());
        stop.cancel();
        assert!(data.verify(&held, &stop).is_err());
    }
}
