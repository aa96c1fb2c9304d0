//! The log: text or JSON lines, to standard error or a file. One event is one line, whatever its values hold.

use super::report::{Kind, Report};
use crate::config::{Level, Log, LogFormat};
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// What the command line and the environment say of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `-v` less `-q`.
    pub verbosity: i8,
    /// `SYNCD_LOG`: a level, or filter directives.
    pub filter: Option<String>,
}

/// Starts the log of this process.
///
/// # Errors
/// When the filter is malformed or the file cannot be opened.
pub fn start(settings: &Log, overrides: &Overrides) -> Result<(), Report> {
    let filter = filter(settings.level, overrides)?;
    let to_terminal = settings.file.as_os_str().is_empty() && io::stderr().is_terminal();
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let ansi = to_terminal && colour && settings.format == LogFormat::Text;
    let target = if settings.file.as_os_str().is_empty() {
        Target::StandardError
    } else {
        Target::File(Arc::new(Mutex::new(open(&settings.file)?)))
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        // It would say on standard error that a line could not be written, and panic where that is full, too.
        .log_internal_errors(false)
        .with_writer(OneLine { target, ansi });
    let started = match settings.format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| {
        Report::new(Kind::Unexpected, "cannot start the log").caused_by(error.as_ref())
    })
}

fn open(path: &Path) -> Result<std::fs::File, Report> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| {
            let message = format!("cannot open the log file `{}`", shown(path));
            Report::new(Kind::Storage, message).caused_by(&error)
        })
}

fn shown(path: &Path) -> String {
    crate::model::escape(path.as_os_str().as_encoded_bytes())
}

/// Arguments win over `SYNCD_LOG`, which wins over the file of settings.
fn filter(level: Level, overrides: &Overrides) -> Result<EnvFilter, Report> {
    let level = match overrides.verbosity {
        0 => match &overrides.filter {
            Some(text) => match text.as_str() {
                "error" => Level::Error,
                "warn" => Level::Warn,
                "info" => Level::Info,
                "debug" => Level::Debug,
                "trace" => Level::Trace,
                directives => return parse(directives),
            },
            None => level,
        },
        1 => Level::Debug,
        more if more > 1 => Level::Trace,
        -1 => Level::Warn,
        _ => Level::Error,
    };
    parse(directives(level))
}

fn parse(directives: &str) -> Result<EnvFilter, Report> {
    EnvFilter::try_new(directives).map_err(|error| {
        Report::new(Kind::Usage, format!("`SYNCD_LOG` is not a log filter: `{directives}`"))
            .caused_by(&error)
            .hint("a level (error, warn, info, debug, trace) or directives such as `info,syncd::daemon=debug`")
    })
}

/// Libraries are one step quieter than syncd itself.
fn directives(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "warn,syncd=info",
        Level::Debug => "info,syncd=debug",
        Level::Trace => "debug,syncd=trace",
    }
}

#[derive(Clone, Debug)]
enum Target {
    StandardError,
    File(Arc<Mutex<std::fs::File>>),
}

/// Makes writers to which each event comes in one piece, and which let only the final line feed through.
#[derive(Clone, Debug)]
struct OneLine {
    target: Target,
    ansi: bool,
}

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for OneLine {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = one_line(&String::from_utf8_lossy(event), self.ansi);
        match &self.target {
            Target::StandardError => io::stderr().lock().write_all(line.as_bytes())?,
            Target::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(line.as_bytes())?;
            }
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The event with every control character inside it escaped; the colours of the subscriber stay where they are on (it
/// escapes those of messages itself).
fn one_line(event: &str, ansi: bool) -> String {
    let body = event.strip_suffix('\n').unwrap_or(event);
    let mut out = String::with_capacity(event.len());
    for (index, part) in body.split('\x1b').enumerate() {
        if index > 0 {
            out.push_str(if ansi { "\x1b" } else { "\\u{1b}" });
        }
        out.push_str(&super::report::printable(part));
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::{Overrides, filter, one_line};
    use crate::config::Level;

    #[test]
    fn a_value_cannot_forge_a_line() {
        let event = "INFO saved path=a\nERROR all is lost\r\u{202e}\n";
        assert_eq!(
            one_line(event, false),
            "INFO saved path=a\\nERROR all is lost\\r\\u{202e}\n"
        );
        assert_eq!(
            one_line("\x1b[32mINFO\x1b[0m\n", true),
            "\x1b[32mINFO\x1b[0m\n"
        );
        assert_eq!(one_line("\x1b[2J\n", false), "\\u{1b}[2J\n");
    }

    #[test]
    fn arguments_win_over_the_environment_and_that_over_the_file() {
        let text = |verbosity, from_environment: Option<&str>| {
            let overrides = Overrides {
                verbosity,
                filter: from_environment.map(str::to_owned),
            };
            filter(Level::Warn, &overrides).map(|filter| filter.to_string())
        };
        assert_eq!(text(0, None).unwrap(), "warn");
        assert!(text(0, Some("debug")).unwrap().contains("syncd=debug"));
        assert!(text(2, Some("debug")).unwrap().contains("syncd=trace"));
        assert_eq!(text(-2, Some("debug")).unwrap(), "error");
        assert!(text(0, Some("syncd=loud")).is_err());
    }
}
