//! Files of settings from the disk, and what they say of paths.

use super::report::{Kind, Report};
use crate::config::{ConfigError, Source};
use crate::host::own::PemFiles;
use crate::model::escape;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What to do about certificates of one's own that cannot be used.
pub const OWN_HINT: &str =
    "`syncd certs init` makes a complete set; certs/README.md says how it is used";

/// Longest file of settings, in bytes: one that is longer is some other file.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads and parses a file of settings; without a file, the defaults.
///
/// # Errors
/// When it cannot be read, is not text, or is refused by `parse`.
pub fn load<T: Default>(
    path: Option<&Path>,
    parse: fn(Source<'_>) -> Result<T, ConfigError>,
) -> Result<T, Report> {
    let Some(path) = path else {
        return Ok(T::default());
    };
    let name = shown(path);
    let text = read(path).map_err(|error| {
        Report::new(Kind::Usage, format!("cannot read the settings `{name}`")).caused_by(&error)
    })?;
    let source = Source {
        name: &name,
        text: &text,
    };
    parse(source).map_err(|error| {
        Report::new(Kind::Usage, error.to_string())
            .detail(error.picture().lines().map(str::to_owned))
    })
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)? as u64;
    if length > MAX_FILE {
        return Err(std::io::Error::other(format!(
            "the file is longer than {MAX_FILE} bytes"
        )));
    }
    Ok(text)
}

/// The PEM files of `[tls]`, if they are named.
///
/// # Errors
/// When the working directory is gone.
pub fn own(config: Option<&Path>, files: [&Path; 3]) -> Result<Option<PemFiles>, Report> {
    let [certificate, key, ca] = files;
    if certificate.as_os_str().is_empty() {
        return Ok(None);
    }
    Ok(Some(PemFiles {
        certificate: beside(config, certificate)?,
        key: beside(config, key)?,
        ca: beside(config, ca)?,
    }))
}

/// Reads a file of PEM text that is named on the command line.
///
/// # Errors
/// When it cannot be read or is not text.
pub fn read_pem(path: &Path) -> Result<String, Report> {
    read(path).map_err(|error| {
        let name = shown(path);
        Report::new(Kind::Usage, format!("cannot read the certificate `{name}`")).caused_by(&error)
    })
}

/// A path as it is shown to people.
#[must_use]
pub fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// A path of a command line, made absolute without asking the disk.
///
/// # Errors
/// When it is empty or the working directory is gone.
pub fn absolute(path: &Path) -> Result<PathBuf, Report> {
    std::path::absolute(path).map_err(|error| {
        Report::new(Kind::Usage, format!("`{}` is not a path", shown(path))).caused_by(&error)
    })
}

/// A path of a file of settings: relative to that file's directory, and absolute in the end. An empty one stays empty.
///
/// # Errors
/// When the working directory is gone.
pub fn beside(config: Option<&Path>, path: &Path) -> Result<PathBuf, Report> {
    if path.as_os_str().is_empty() {
        return Ok(PathBuf::new());
    }
    match config.and_then(Path::parent) {
        Some(directory) => absolute(&directory.join(path)),
        None => absolute(path),
    }
}
