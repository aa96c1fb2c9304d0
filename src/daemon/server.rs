//! The loop that accepts connections, proves who they are, and hands devices to a session.
//!
//! Whoever has not proven anything holds a place among a bounded number, of which an old one gives way, so idlers never
//! keep a device out; devices have a bound of their own. No error of `accept` ends the loop. What a device says is the
//! handler's business.

use crate::daemon::severable::Severable;
use crate::daemon::trust::Trust;
use crate::daemon::turned_away::TurnedAway;
use crate::daemon::waiting::{Pending, network};
use crate::host::devices::DeviceInfo;
use crate::host::tls::BUFFER_LIMIT;
use crate::host::{clock, net};
use crate::model::limits::HANDSHAKE_SECONDS;
use crate::wire::{ALPN, ALPN_JOIN, Code, Response, encode};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::sync::CancellationToken;

/// A connection of a device.
pub type ServerStream = Severable<TlsStream>;
type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// How long an `accept` that finds no free descriptor waits before the next one.
const STARVED: Duration = Duration::from_millis(100);
/// How long it waits when strangers gave theirs up.
const EVICTED: Duration = Duration::from_millis(5);
/// How long a handler may take to end after its device was revoked or the server was told to stop.
const GRACE: Duration = Duration::from_secs(8);
/// How long a refused client is given to read why.
const FAREWELL: Duration = Duration::from_millis(500);

/// The bounds of the loop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections of devices at a time.
    pub max_clients: usize,
    /// Connections that have proven nothing yet, joining ones included.
    pub max_unauthenticated: usize,
    /// Time from the acceptance of a connection to its proof.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_clients: 1024,
            max_unauthenticated: 256,
            handshake: Duration::from_secs(HANDSHAKE_SECONDS),
        }
    }
}

impl Limits {
    /// The same with at most a quarter of the descriptors that the process may open for strangers and half for devices.
    #[must_use]
    pub fn within_descriptors(self) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Self {
            max_clients: self.max_clients.min((limit / 2).max(4)),
            max_unauthenticated: self.max_unauthenticated.min((limit / 4).max(4)),
            ..self
        }
    }
}

/// Accepts connections until `shutdown`, then waits for the handlers to end, each within a bound.
///
/// `handler` is called for each connection of an enrolled device. It must end soon after its device's token or
/// `shutdown` is cancelled; otherwise it is dropped.
pub async fn run<H, F>(
    listener: TcpListener,
    trust: Trust,
    limits: Limits,
    shutdown: CancellationToken,
    handler: H,
) where
    H: Fn(ServerStream, DeviceInfo) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let door = Arc::new(Door {
        trust,
        limits: limits.within_descriptors(),
        handler,
        pending: Mutex::default(),
        clients: AtomicUsize::new(0),
        turned_away: TurnedAway::default(),
    });
    let mut tasks = JoinSet::new();
    let mut starved = false;
    let period = door.trust.refresh_period();
    let mut renewal = interval_at(Instant::now() + period, period);
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            _ = renewal.tick() => {
                refresh(&door.trust);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                starved = false;
                let place = door.enter(peer.ip());
                tasks.spawn(door.clone().serve(stream, peer, place, Instant::now()));
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut starved, true) {
                    tracing::warn!(%error, "cannot accept connections for now");
                }
                // An idler's descriptor serves a device better. The pause lets its task end, and keeps a table that is
                // full of others from spinning this loop.
                let pause = if door.evict() { EVICTED } else { STARVED };
                drop(timeout(pause, shutdown.cancelled()).await);
            }
        }
    }
    drop(listener);
    door.close();
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(GRACE, ended).await.is_err() {
        tracing::warn!(sessions = tasks.len(), "sessions did not end in time");
    }
    tasks.shutdown().await;
}

/// Looks after the server's certificate, on a thread of its own because it may write files.
fn refresh(trust: &Trust) {
    let trust = trust.clone();
    drop(tokio::task::spawn_blocking(move || {
        if let Err(error) = trust.refresh() {
            tracing::error!(%error, "cannot renew the server's certificate");
        }
    }));
}

/// Failures of `accept` that say something about one connection only.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    use io::ErrorKind::{HostUnreachable, NetworkDown, NetworkUnreachable, PermissionDenied};
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | Interrupted
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
    )
}

/// What all connections share.
struct Door<H> {
    trust: Trust,
    limits: Limits,
    handler: H,
    pending: Mutex<Pending>,
    clients: AtomicUsize,
    turned_away: TurnedAway,
}

/// A place among those without proof.
struct Place {
    number: u64,
    gone: CancellationToken,
}

impl<H> Door<H> {
    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a place, if all are taken an old one of the largest crowd's.
    fn enter(&self, peer: IpAddr) -> Place {
        let mut pending = self.pending();
        while pending.places.len() >= self.limits.max_unauthenticated {
            pending.make_room();
        }
        pending.next += 1;
        let place = Place {
            number: pending.next,
            gone: CancellationToken::new(),
        };
        let held = (place.gone.clone(), network(peer));
        pending.places.insert(place.number, held);
        place
    }

    /// Frees half of the places; tells whether there was any.
    fn evict(&self) -> bool {
        let mut pending = self.pending();
        let count = pending.places.len().div_ceil(2);
        for _ in 0..count {
            pending.make_room();
        }
        count > 0
    }

    fn leave(&self, place: &Place) {
        self.pending().places.remove(&place.number);
    }

    /// Sends everybody away who has proven nothing.
    fn close(&self) {
        for (token, _) in std::mem::take(&mut self.pending().places).into_values() {
            token.cancel();
        }
    }
}

/// What a connection turned out to be.
enum Arrived {
    Device(Box<TlsStream>, DeviceInfo),
    Done,
}

impl<H, F> Door<H>
where
    H: Fn(ServerStream, DeviceInfo) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        place: Place,
        accepted: Instant,
    ) {
        let deadline = accepted + self.limits.handshake;
        let arrived = tokio::select! {
            () = place.gone.cancelled() => Err(io::Error::other("gave way to newer connections")),
            arrived = timeout_at(deadline, self.prove(stream)) => {
                arrived.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        };
        self.leave(&place);
        match arrived {
            // On the heap of its own: strangers' tasks must not be as large as a session's.
            Ok(Arrived::Device(stream, device)) => {
                Box::pin(self.admit(*stream, peer, device)).await;
            }
            Ok(Arrived::Done) => {}
            Err(error) => self.turned_away.note(peer, &error),
        }
    }

    /// The handshake, and for those who join the whole exchange.
    async fn prove(&self, stream: TcpStream) -> io::Result<Arrived> {
        net::tune(&stream)?;
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        let config = self.trust.tls().choose(&start.client_hello());
        let mut stream = match start.into_stream(config).into_fallible().await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                farewell(stream).await;
                return Err(error);
            }
        };
        let (_, connection) = stream.get_mut();
        connection.set_buffer_limit(Some(BUFFER_LIMIT));
        if connection.alpn_protocol() == Some(ALPN_JOIN) {
            let outcome = self.trust.enroller().serve(&mut stream).await;
            return outcome.map(|()| Arrived::Done).map_err(io::Error::other);
        }
        if connection.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other("the client named no protocol"));
        }
        match self.trust.tls().device(connection.peer_certificates()) {
            Ok(device) => Ok(Arrived::Device(Box::new(stream), device)),
            Err(reason) => Err(io::Error::other(format!("device not served: {reason:?}"))),
        }
    }

    async fn admit(self: Arc<Self>, stream: TlsStream, peer: SocketAddr, device: DeviceInfo) {
        let _counted = Counted::new(&self.clients);
        if self.clients.load(Ordering::Relaxed) > self.limits.max_clients {
            tracing::warn!(device = %device.name, "too many clients");
            return busy(stream).await;
        }
        let (id, until) = (device.id.clone(), device.certificate_until);
        self.note(id.clone(), until).await;
        let revoked = device.revoked.clone();
        let cut = CancellationToken::new();
        let session = (self.handler)(Severable::new(stream, peer, cut.clone()), device);
        tokio::pin!(session);
        tokio::select! {
            () = &mut session => {}
            () = revoked.cancelled() => {
                // It is told why, but nothing that it does not read keeps the line open.
                if timeout(FAREWELL, &mut session).await.is_err() {
                    cut.cancel();
                    drop(timeout(GRACE, session).await);
                }
            }
        }
        self.note(id, until).await;
    }

    /// Notes that a device is here, or was.
    async fn note(self: &Arc<Self>, id: String, until: u64) {
        let door = self.clone();
        let noted = move || door.trust.devices().seen(&id, clock::wall(), until);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(noted).await {
            tracing::warn!(%error, "cannot note a device's visit");
        }
    }
}

/// Counts a client for as long as it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets a refused client read the alert: closing while its bytes are unread would throw the alert away.
async fn farewell(mut stream: TcpStream) {
    let mut scratch = [0; 1024];
    let drain = async {
        stream.shutdown().await?;
        while stream.read(&mut scratch).await? > 0 {}
        Ok::<(), io::Error>(())
    };
    drop(timeout(FAREWELL, drain).await);
}

/// Tells a device that there are too many.
async fn busy(mut stream: TlsStream) {
    let refusal = Response::Refused {
        code: Code::Busy,
        message: "the server has as many clients as it may have".to_owned(),
    };
    let mut frame = Vec::new();
    encode(
        &serde_json::to_vec(&refusal).unwrap_or_default(),
        &[],
        &mut frame,
    );
    let say = async {
        stream.write_all(&frame).await?;
        stream.shutdown().await
    };
    if let Ok(Ok(())) = timeout(FAREWELL, say).await {
        let (stream, _) = stream.into_inner();
        farewell(stream).await;
    }
}

#[cfg(test)]
mod tests;
