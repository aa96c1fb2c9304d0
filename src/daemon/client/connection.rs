//! One server's connection: dialled for ever, a session while it lasts.

use super::asked::Asked;
use super::hello;
use super::mirror::{Input, Link};
use super::renewal::{Met, invited_share, renew, renewed};
use super::{ClientError, ONCE_PATIENCE, SharedLine, line};
use crate::daemon::connect::{ClientStream, ConnectError, ConnectKind, Connection, Connector};
use crate::daemon::pump::{FrameReader, Outbox, Outgoing, PumpError, outbox, write_loop};
use crate::daemon::responses::next_response;
use crate::host::setid::SetIds;
use crate::host::tls::Rejection;
use crate::host::{clock, random};
use crate::model::limits::{KEEPALIVE_SECONDS, UPLOAD_WINDOW};
use crate::wire::{Code, MINOR_RENEW, Request, Response};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{ReadHalf, split};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

/// Frames that may wait for the line: more than a session ever has under way.
const URGENT: usize = 4096;
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long a client that was revoked stays away: somebody has to act first.
const REVOKED_PAUSE: Duration = Duration::from_mins(5);
/// How long a client stays away that another one replaced.
const REPLACED_PAUSE: Duration = Duration::from_secs(5);
/// What is said of another client that is this one.
const COPIED: &str = "another client has this one's key and directory: is one server named twice? where a home was copied, \
                      remove the copy's state of syncd and enrol it anew";
/// How long the last frames of a session may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Whom to dial, and as whom.
pub(super) struct Dial {
    pub(super) connector: Arc<Connector>,
    pub(super) address: String,
    pub(super) share: Option<String>,
    pub(super) take_over: bool,
    pub(super) directory: PathBuf,
    pub(super) once: bool,
    /// Whether it only looks.
    pub(super) visits: bool,
    /// Whether no other server is mirrored to: then a refusal that only somebody can mend ends the client.
    pub(super) alone: bool,
    pub(super) line: SharedLine,
    /// Bytes a second that may be sent.
    pub(super) rate: Option<u64>,
    /// Bytes sent since the start.
    pub(super) sent: Arc<AtomicU64>,
    pub(super) setids: SetIds,
}

/// How a session ended.
enum End {
    Stopped,
    Lost(String),
    Refused(Code, String),
    /// The server does not accept this device's certificate.
    Unaccepted(ConnectError),
    /// Source and mirror lie in one another.
    Overlap(String),
}

/// Keeps a session open until `stop`.
///
/// # Errors
/// A refusal that trying again does not mend. With `--once`: no connection within its patience, any lasting refusal, or a
/// line that is lost again and again.
pub(super) async fn keep(
    mut dial: Dial,
    inputs: mpsc::Sender<Input>,
    stop: CancellationToken,
) -> Result<(), ClientError> {
    let mut pause = FIRST_PAUSE;
    let mut away_since = clock::monotonic();
    while !stop.is_cancelled() {
        let connected = tokio::select! {
            connected = dial.connector.connect(&dial.address) => connected,
            () = stop.cancelled() => break,
        };
        let mut hint = None;
        let reason = match connected {
            Ok(connection) => {
                let mut served = false;
                let end = session(&dial, connection, &inputs, &stop, &mut served).await;
                if served {
                    pause = FIRST_PAUSE;
                    away_since = clock::monotonic();
                    // Once is enough: whoever takes over from this client later is respected.
                    dial.take_over = false;
                }
                pause = match &end {
                    End::Refused(Code::Revoked, _) => REVOKED_PAUSE,
                    // This process never has two connections: the newer one is of a copy. They do not fight.
                    End::Refused(Code::Replaced, _) => REPLACED_PAUSE,
                    _ => pause,
                };
                match after(&mut dial, end, away_since.elapsed())? {
                    Some(reason) => reason,
                    None => break,
                }
            }
            Err(error) => {
                // Who hears nothing waits; who is told that nothing can be done without somebody's help does not.
                if dial.once && error.kind() != ConnectKind::Unreachable {
                    return Err(ClientError::Unaccepted(error));
                }
                if dial.once && away_since.elapsed() > ONCE_PATIENCE {
                    return Err(ClientError::Connect(error));
                }
                hint = Some(error.hint());
                caused(&error)
            }
        };
        let wait = jittered(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        note(&dial.line, &reason, hint, wait);
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.cancelled() => break,
        }
    }
    Ok(())
}

/// What follows from the end of a session: the reason to dial again, or nothing when that is not wanted.
fn after(dial: &mut Dial, end: End, away: Duration) -> Result<Option<String>, ClientError> {
    let impatient = dial.once && away > ONCE_PATIENCE;
    let server = || dial.address.clone();
    let reason = match end {
        End::Stopped => return Ok(None),
        End::Lost(reason) => reason,
        End::Unaccepted(error) if dial.once => return Err(ClientError::Unaccepted(error)),
        End::Overlap(why) if dial.once || dial.alone => return Err(ClientError::Overlap(why)),
        End::Overlap(why) => {
            line(&dial.line).refused = true;
            why
        }
        End::Unaccepted(error) => format!("{}; {}", caused(&error), error.hint()),
        End::Refused(code, message) => {
            let passing = matches!(code, Code::Stopping | Code::Busy | Code::Replaced);
            let lasting = matches!(
                code,
                Code::Held | Code::Mixed | Code::Forbidden | Code::Revoked | Code::Version
            );
            if dial.once && !passing || dial.alone && lasting {
                return Err(ClientError::Refused {
                    server: server(),
                    code,
                    message,
                });
            }
            line(&dial.line).refused = !passing;
            if code == Code::Replaced {
                format!("{message}: {COPIED}")
            } else {
                message
            }
        }
    };
    if impatient {
        return Err(ClientError::Lost {
            server: server(),
            reason,
        });
    }
    Ok(Some(reason))
}

/// An error with its cause, in one line.
fn caused(error: &ConnectError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

fn note(shared: &SharedLine, reason: &str, hint: Option<&str>, wait: Duration) {
    let mut line = line(shared);
    if line.last_error.as_deref() != Some(reason) {
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        tracing::warn!("{reason}; trying again{hint}");
        line.last_error = Some(reason.to_owned());
    }
    line.retry = Some(clock::monotonic() + wait);
}

/// Between half and all of a pause, so that many clients do not come back at the same moment.
pub(super) fn jittered(pause: Duration) -> Duration {
    let roll = random::bytes::<1>().map_or(128, |[byte]| u32::from(byte));
    pause / 2 + pause * roll / 512
}

async fn session(
    dial: &Dial,
    connection: Connection,
    inputs: &mpsc::Sender<Input>,
    stop: &CancellationToken,
    served: &mut bool,
) -> End {
    static EPOCHS: AtomicU64 = AtomicU64::new(1);
    let epoch = EPOCHS.fetch_add(1, Ordering::Relaxed);
    let (read, write) = split(connection.stream);
    let (outbox, queue) = outbox(URGENT);
    let line = Arc::default();
    let mut writer = tokio::spawn(write_loop(
        queue
            .counted_in(&dial.sent)
            .limited_to(dial.rate)
            .over(&line),
        write,
    ));
    let window = Arc::new(Semaphore::new(usize::try_from(UPLOAD_WINDOW).unwrap_or(0)));
    let mut frames = FrameReader::new(read);
    let share = match invited_share(&dial.connector, dial.share.as_ref(), &connection.server_id) {
        Ok(share) => share,
        Err(error) => return End::Refused(Code::Forbidden, error.to_string()),
    };
    let hello = hello::first(dial, &connection.device_id, share.clone());
    drop(outbox.urgent.send(Outgoing::new(&hello, Vec::new())).await);
    let link = Link {
        epoch,
        outbox,
        window: Arc::clone(&window),
        asked: Arc::new(Asked::new()),
        resumes: false,
        line,
    };
    let met = Met {
        server_id: &connection.server_id,
        share,
        renews: CancellationToken::new(),
    };
    let end = tokio::select! {
        end = talk(dial, &met, link.clone(), &mut frames, inputs, served) => end,
        () = renew(dial, &met, &link.outbox) => End::Lost("the connection failed".to_owned()),
        () = stop.cancelled() => End::Stopped,
        () = keep_alive(&link.outbox) => End::Lost("the connection failed".to_owned()),
    };
    window.close();
    link.asked.close();
    drop(link);
    drop(inputs.send(Input::Disconnected(epoch)).await);
    if matches!(end, End::Stopped) {
        // The engine lets go of its end when it stops; then the last frames go out.
        drop(tokio::time::timeout(LAST_WORDS, &mut writer).await);
    }
    writer.abort();
    end
}

pub(in crate::daemon) async fn keep_alive(outbox: &Outbox) {
    let mut tick = interval(Duration::from_secs(KEEPALIVE_SECONDS));
    loop {
        tick.tick().await;
        if outbox
            .urgent
            .send(Outgoing::new(&Request::Ping {}, Vec::new()))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// How a line ended, for a person.
fn lost(dial: &Dial, server_id: &str, error: &PumpError) -> End {
    let PumpError::Io(error) = error else {
        return End::Lost(format!("lost the server at `{}`: {error}", dial.address));
    };
    let reason = match dial.connector.rejected(server_id, error) {
        Some(why) if dial.connector.may_enrol(server_id) => why.to_string(),
        Some(why @ Rejection::Revoked) => {
            let unaccepted = dial.connector.unaccepted(&dial.address, why.clone());
            return End::Refused(Code::Revoked, format!("{why}; {}", unaccepted.hint()));
        }
        Some(
            why @ (Rejection::UnknownDevice
            | Rejection::Expired
            | Rejection::Authority
            | Rejection::Unfit
            | Rejection::Version),
        ) => return End::Unaccepted(dial.connector.unaccepted(&dial.address, why)),
        // Any of these can come of a line that changes bytes.
        Some(why) => format!("{why}; {}", why.hint()),
        // It was killed, or its machine went: what the TLS library says of it helps nobody.
        None if error.kind() == ErrorKind::UnexpectedEof => "the server ended".to_owned(),
        None => error.to_string(),
    };
    End::Lost(format!(
        "the connection to `{}` failed: {reason}",
        dial.address
    ))
}

async fn talk(
    dial: &Dial,
    met: &Met<'_>,
    link: Link,
    frames: &mut FrameReader<ReadHalf<ClientStream>>,
    inputs: &mpsc::Sender<Input>,
    served: &mut bool,
) -> End {
    let epoch = link.epoch;
    let window = Arc::clone(&link.window);
    let asked = Arc::clone(&link.asked);
    let mut link = Some(link);
    loop {
        let (response, frame) = match next_response(frames).await {
            Ok(next) => next,
            Err(error) => return lost(dial, met.server_id, &error),
        };
        let input = match response {
            Response::Welcome {
                minor,
                version,
                first_contact,
                keeps_setid,
                ref share,
                ref above,
                ..
            } => {
                if let Some(why) = hello::overlap(&dial.directory, &dial.address, above) {
                    return End::Overlap(why);
                }
                let said = (minor, version, first_contact);
                let Some((link, welcome)) = hello::greeting(&mut link, said, &frame.body) else {
                    return End::Lost("the server broke the protocol".to_owned());
                };
                *served = true;
                // Before minor version 1 nothing is said, and what is taken away is found at the next comparison.
                dial.setids.set_kept(keeps_setid.unwrap_or(true));
                welcomed(dial, met, minor);
                link.speaks(minor);
                Input::Connected {
                    link,
                    mirror: format!("{}-{share}", met.server_id),
                    welcome,
                }
            }
            Response::Refused { code, message } => {
                let (code, message) = hello::understood(dial.visits && !*served, code, message);
                return End::Refused(code, message);
            }
            answer @ Response::Renewed { .. } => {
                renewed(dial, met, answer);
                continue;
            }
            Response::Recipe {
                id,
                size,
                last,
                failed,
                leftover,
            } => {
                asked.part((id, leftover), size, last, failed.is_some(), &frame.body);
                continue;
            }
            Response::Received { bytes } => {
                window.add_permits(usize::try_from(bytes).unwrap_or(0));
                continue;
            }
            other => Input::Response {
                epoch,
                response: other,
                body: frame.body,
            },
        };
        if inputs.send(input).await.is_err() {
            return End::Stopped;
        }
    }
}

/// Takes note of a session that is open.
fn welcomed(dial: &Dial, met: &Met<'_>, minor: u16) {
    *line(&dial.line) = super::Line {
        share: met.share.clone(),
        ..super::Line::default()
    };
    tracing::info!("connected to `{}`", dial.address);
    if minor >= MINOR_RENEW {
        met.renews.cancel();
    }
}
