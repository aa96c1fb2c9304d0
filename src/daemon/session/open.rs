//! The opening of a session: hello, the hold on a share, a look at its directory, welcome.

use super::{Guest, Session, SessionError, Terms, parse, permitted, say, stopping, using, visit};
use crate::daemon::pump::{FrameReader, Outbox, Outgoing};
use crate::daemon::share::{Claim, Refusal, Shares};
use crate::engine::server::SetId;
use crate::host::devices::DeviceInfo;
use crate::model::limits::{HANDSHAKE_SECONDS, KEEPALIVE_SECONDS};
use crate::wire::{MINOR, MINOR_RENEW, Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

/// Opens a session and runs it to its end.
pub(super) async fn converse<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    outbox: &Outbox,
    device: DeviceInfo,
    shares: Arc<Shares>,
    terms: &Terms,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    let hello = tokio::select! {
        () = shutdown.cancelled() => return Err(stopping()),
        hello = timeout(Duration::from_secs(HANDSHAKE_SECONDS), reader.next()) => hello,
    };
    let frame = hello.map_err(|_| SessionError::Late)??;
    let (minor, share, source, source_name, take_over) = match parse(&frame)? {
        Request::Hello {
            minor,
            share,
            source,
            source_name,
            take_over,
        } => (minor, share, source, source_name, take_over),
        Request::Visit(visit) => {
            let guest = guest(device, visit.share.clone(), visit.minor, terms);
            return visit::serve(reader, outbox, (visit, guest), shares, terms, shutdown).await;
        }
        Request::Use(usage) => {
            let guest = guest(device, usage.share.clone(), usage.minor, terms);
            return using::serve(reader, outbox, guest, shares, terms, shutdown).await;
        }
        _ => return Err(SessionError::Protocol("a hello comes first".to_owned())),
    };
    let guest = guest(device.clone(), share.clone(), minor, terms);
    let guest_minor = guest.minor;
    let claim = Claim {
        device,
        source,
        source_name,
        take_over,
    };
    check_claim(&claim)?;
    let name = share.clone();
    let attach = move || shares.attach(share.as_deref(), &claim);
    let held = blocking(attach).await??;
    // Each session opens one share, once.
    let _first = terms.opened.set(name);
    let opened = held.clone();
    let result = async {
        let looking = held.clone();
        let welcome = move || looking.welcome(guest_minor);
        greet(reader, outbox, welcome, (&guest, &held.replaced), shutdown).await?;
        tracing::info!(share = %held.share.title(), "a writer connected");
        Session::start(held.clone(), outbox, guest, (terms.window, &terms.files))?
            .run(reader, outbox, shutdown)
            .await
    }
    .await;
    opened.detach();
    result
}

fn guest(device: DeviceInfo, share: Option<String>, minor: u16, terms: &Terms) -> Guest {
    Guest {
        setid: if device.local || terms.allow_setid {
            SetId::Keep
        } else {
            SetId::Strip
        },
        device,
        share,
        minor: minor.min(MINOR),
        enroller: terms.enroller.clone(),
    }
}

/// Whether it is the id of a source.
pub(super) fn is_source(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

fn check_claim(claim: &Claim) -> Result<(), SessionError> {
    if is_source(&claim.source) && claim.source_name.len() <= 8192 {
        Ok(())
    } else {
        Err(SessionError::Protocol(
            "the hello names no valid source".to_owned(),
        ))
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SessionError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| SessionError::dead_thread())
}

/// Looks at the directory, which may take long, and greets. Meanwhile the line is kept alive.
pub(super) async fn greet<R: AsyncRead + Unpin>(
    reader: &mut FrameReader<R>,
    outbox: &Outbox,
    look: impl FnOnce() -> Result<(Response, Vec<u8>), Refusal> + Send + 'static,
    (guest, replaced): (&Guest, &CancellationToken),
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    let welcome = blocking(look);
    tokio::pin!(welcome);
    let mut beat = interval(Duration::from_secs(KEEPALIVE_SECONDS));
    beat.tick().await;
    let (mut message, body) = loop {
        tokio::select! {
            welcome = &mut welcome => break welcome??,
            _ = beat.tick() => say(outbox, &Response::Pong {}).await,
            () = shutdown.cancelled() => return Err(stopping()),
            () = guest.device.revoked.cancelled() => return Err(permitted::revoked().into()),
            () = replaced.cancelled() => return Err(Refusal::replaced().into()),
            frame = reader.next() => match parse(&frame?)? {
                Request::Ping {} => say(outbox, &Response::Pong {}).await,
                _ => return Err(SessionError::Protocol("the welcome was not awaited".to_owned())),
            },
        }
    };
    if let Response::Welcome { keeps_setid, .. } = &mut message
        && guest.minor >= MINOR_RENEW
    {
        *keeps_setid = Some(guest.setid == SetId::Keep);
    }
    drop(outbox.urgent.send(Outgoing::new(&message, body)).await);
    Ok(())
}
