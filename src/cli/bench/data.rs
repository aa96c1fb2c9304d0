//! `syncd bench data`.

use super::samples::Stream;
use crate::cli::report::{Kind, Report};
use crate::cli::settings::{absolute, shown};
use crate::cli::{log, overview, render, runtime};
use crate::config::{Log, Size};
use clap::Args;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio_util::sync::CancellationToken;

/// Files of a data set at most.
pub(super) const MAX_FILES: u64 = 1_000_000;
/// Bytes of one file at most.
const MAX_SIZE: u64 = 1 << 40;
/// How much is made at a time, in bytes.
const PIECE: usize = 1 << 20;

/// Arguments of `syncd bench data`.
#[derive(Debug, Args)]
pub struct DataArguments {
    /// Where the files go; it is made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// How many files, 1 to 1000000
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u64).range(1..=MAX_FILES))]
    files: u64,
    /// How long each is: a size, or the least and the most
    #[arg(long, value_name = "SIZE[..SIZE]", default_value = "8MB..10MB", value_parser = parse_sizes)]
    size: RangeInclusive<u64>,
    /// What decides names, sizes and bytes
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Copy files of this directory, and of all below it, instead of making random ones; the seed chooses
    #[arg(long, value_name = "DIR", conflicts_with = "size")]
    from: Option<PathBuf>,
    /// Also into a directory that holds something; what is there stays, but for files of the same names
    #[arg(long)]
    force: bool,
}

fn parse_sizes(text: &str) -> Result<RangeInclusive<u64>, String> {
    let size = |text: &str| match text.trim().parse::<Size>() {
        Ok(Size(size @ 0..=MAX_SIZE)) => Ok(size),
        Ok(_) => Err("a file has 1 TiB at most".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let (least, most) = (size(least)?, size(most)?);
    if least > most {
        return Err("the least comes first, as in `8MB..10MB`".to_owned());
    }
    Ok(least..=most)
}

/// Runs the command.
///
/// # Errors
/// When the directory is not empty, or the files cannot be made.
pub fn run(arguments: DataArguments, overrides: &log::Overrides) -> Result<(), Report> {
    log::start(&Log::default(), overrides)?;
    runtime::run(|stop| async move {
        let made = tokio::task::spawn_blocking(move || make(&arguments, &stop)).await;
        let text = made.map_err(|error| {
            Report::new(Kind::Unexpected, "the files could not be made").caused_by(&error)
        })??;
        render::line(&text)
    })
}

/// A failure with a path.
fn failed(attempt: &str, path: &Path) -> impl FnOnce(io::Error) -> Report {
    let message = format!("cannot {attempt} `{}`", shown(path));
    move |error| Report::new(Kind::Storage, message).caused_by(&error)
}

/// Makes the files. What was made.
fn make(arguments: &DataArguments, stop: &CancellationToken) -> Result<String, Report> {
    let directory = absolute(&arguments.directory)?;
    let samples = arguments.from.as_deref().map(samples_of).transpose()?;
    fs::create_dir_all(&directory).map_err(failed("make the directory", &directory))?;
    let mut there = fs::read_dir(&directory).map_err(failed("read the directory", &directory))?;
    if there.next().is_some() && !arguments.force {
        let message = format!("`{}` is not empty", shown(&directory));
        let hint = "name a new directory, or add the files to what is there with `--force`";
        return Err(Report::new(Kind::Usage, message).hint(hint));
    }
    let (mut names, mut bytes) = (BTreeSet::new(), 0);
    for number in 0..arguments.files {
        let mut stream = Stream::new(arguments.seed, number);
        let mut name = stream.name();
        while !names.insert(name.clone()) {
            name = stream.name();
        }
        let mut source: Box<dyn Read> = match &samples {
            None => {
                let length = stream.within(&arguments.size);
                Box::new(Random(stream).take(length))
            }
            Some(samples) => {
                let last = samples.len().saturating_sub(1) as u64;
                let at = usize::try_from(stream.within(&(0..=last))).unwrap_or(0);
                let sample = samples.get(at).cloned().unwrap_or_default();
                if let Some(ending) = sample.extension() {
                    name = format!("{name}.{}", ending.to_string_lossy());
                }
                Box::new(File::open(&sample).map_err(failed("read the sample", &sample))?)
            }
        };
        bytes += write(&directory.join(OsString::from(name)), &mut *source, stop)?;
    }
    let (files, bytes) = (
        overview::count(arguments.files, "file"),
        super::figures::megabytes(bytes),
    );
    let of = match &arguments.from {
        None => format!("seed {}", arguments.seed),
        Some(from) => format!("copies from `{}`, seed {}", shown(from), arguments.seed),
    };
    Ok(format!(
        "{files}, {bytes}, in `{}` ({of})",
        shown(&arguments.directory)
    ))
}

/// Random bytes without an end.
struct Random(Stream);

impl Read for Random {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.fill(out);
        Ok(out.len())
    }
}

/// Writes one file. How long it is. One that is not whole is removed.
fn write(path: &Path, source: &mut dyn Read, stop: &CancellationToken) -> Result<u64, Report> {
    let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let file = options.custom_flags(flags).open(path);
    let mut file = file.map_err(failed("make", path))?;
    let copied = copy(source, &mut file, stop);
    if !matches!(copied, Ok(Some(_))) {
        // What remains is found by whoever looks at the directory.
        let _left = fs::remove_file(path);
    }
    copied
        .map_err(failed("write", path))?
        .ok_or_else(|| Report::new(Kind::Unexpected, "stopped before everything was made"))
}

/// How much was copied; nothing if it was stopped.
fn copy(
    source: &mut dyn Read,
    file: &mut File,
    stop: &CancellationToken,
) -> io::Result<Option<u64>> {
    let (mut buffer, mut bytes) = (vec![0; PIECE], 0);
    loop {
        if stop.is_cancelled() {
            return Ok(None);
        }
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok(Some(bytes));
        }
        file.write_all(buffer.get(..count).unwrap_or_default())?;
        bytes += count as u64;
    }
}

/// The files below a directory, in order.
fn samples_of(directory: &Path) -> Result<Vec<PathBuf>, Report> {
    let found = files_below(directory)?;
    if found.is_empty() {
        let message = format!("there are no files in `{}`", shown(directory));
        return Err(Report::new(Kind::Usage, message));
    }
    Ok(found.into_iter().map(|(path, _)| path).collect())
}

/// The regular files below a directory, in order, with their lengths.
///
/// # Errors
/// When it cannot be read, or holds more than a data set may have.
pub(super) fn files_below(directory: &Path) -> Result<Vec<(PathBuf, u64)>, Report> {
    let (mut found, mut todo) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = todo.pop() {
        let read = || failed("read the directory", &directory);
        for entry in fs::read_dir(&directory).map_err(read())? {
            let entry = entry.map_err(read())?;
            let meta = entry.metadata().map_err(read())?;
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.is_file() {
                found.push((entry.path(), meta.len()));
            }
            if (found.len() + todo.len()) as u64 > MAX_FILES {
                let message = format!("`{}` holds too much", shown(&directory));
                let hint = "a data set has 1000000 files at most";
                return Err(Report::new(Kind::Usage, message).hint(hint));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::parse_sizes;

    #[test]
    fn sizes_are_one_or_a_range() {
        assert_eq!(parse_sizes("8MB..10MB"), Ok(8_000_000..=10_000_000));
        assert_eq!(parse_sizes("1 KiB"), Ok(1024..=1024));
        assert_eq!(parse_sizes("0..1"), Ok(0..=1));
        for wrong in ["", "..", "2MB..1MB", "1..", "x", "2TiB", "8..9..10"] {
            assert!(parse_sizes(wrong).is_err(), "{wrong}");
        }
    }
}
