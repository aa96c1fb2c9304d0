//! All text for standard output. Nothing else in the program writes there.

use super::report::{Kind, Report, printable};
use std::io::{ErrorKind, IsTerminal, Write};
use std::net::SocketAddr;

/// Writes to standard output and flushes it. A reader that went away (`syncd status | head -1`) is no failure.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(text: &str) -> Result<(), Report> {
    write(text.as_bytes())
}

/// Writes bytes that a machine reads, as they are.
///
/// # Errors
/// When standard output cannot be written.
pub fn write(bytes: &[u8]) -> Result<(), Report> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Report::new(Kind::Storage, "cannot write to standard output").caused_by(&error))
        }
        _ => Ok(()),
    }
}

/// Where a content goes that is the result of a command.
#[must_use]
pub fn stream() -> Box<dyn Write + Send> {
    Box::new(std::io::stdout())
}

/// The one line by which a server says that it is ready, with its real port.
///
/// # Errors
/// When standard output cannot be written.
pub fn listening(address: SocketAddr) -> Result<(), Report> {
    print(&format!("listening on {address}\n"))
}

/// One line for a person, with control characters escaped.
///
/// # Errors
/// When standard output cannot be written.
pub fn line(text: &str) -> Result<(), Report> {
    print(&format!("{}\n", printable(text)))
}

/// Shows a text in place of the one before: on a terminal the screen is redrawn, elsewhere the texts follow each other.
///
/// # Errors
/// When standard output cannot be written.
pub fn redraw(text: &str) -> Result<(), Report> {
    if std::io::stdout().is_terminal() {
        print(&format!("\x1b[H\x1b[2J{text}"))
    } else {
        print(&format!("{text}\n"))
    }
}
