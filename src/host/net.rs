//! TCP sockets, set up as every connection of this program needs them.

use crate::model::limits::{KEEPALIVE_SECONDS, SILENCE_SECONDS};
use crate::wire::MAX_INVITE_ADDRESSES;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout};

/// Seconds that connecting may take, with the look-up of the name and all of its addresses.
pub const CONNECT_SECONDS: u64 = 10;
/// How long it is waited for somebody on this machine.
const PROBE: Duration = Duration::from_millis(200);
/// Bytes that may wait unsent in a socket: what is written after them must not wait behind more.
pub const NOTSENT_BYTES: u32 = 128 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens on `ADDR:PORT`; port 0 takes a free one. The address is where it really listens.
///
/// # Errors
/// When the name has no address or none can be bound.
pub async fn listen(address: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(address).await? {
        match bind(address) {
            Ok(listener) => {
                let real = listener.local_addr()?;
                return Ok((listener, real));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connects to `HOST:PORT`, trying the host's addresses one after the other, each with a fair part of the time.
///
/// # Errors
/// The last address's failure, or that the time is over.
pub async fn connect(address: &str) -> io::Result<TcpStream> {
    let end = Instant::now() + Duration::from_secs(CONNECT_SECONDS);
    let addresses: Vec<SocketAddr> = timeout(Duration::from_secs(CONNECT_SECONDS), async {
        lookup_host(address).await.map(Iterator::collect)
    })
    .await
    .map_err(|_| late())??;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, candidate) in addresses.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1).max(1);
        match timeout(share, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => {
                tune(&stream)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = late(),
        }
    }
    Err(last)
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// Sets a connection up: nothing waits to be gathered, a silent peer is noticed, little waits unsent.
///
/// # Errors
/// When the system refuses, which it does for a connection that is already gone.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(KEEPALIVE_SECONDS))
        .with_interval(Duration::from_secs(KEEPALIVE_SECONDS / 2))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(SILENCE_SECONDS)))?;
    socket.set_tcp_notsent_lowat(NOTSENT_BYTES)
}

/// Sets a connection of a plain protocol up: nothing waits to be gathered, a peer that is gone is noticed.
///
/// # Errors
/// When the system refuses, which it does for a connection that is already gone.
pub fn tune_plain(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(KEEPALIVE_SECONDS))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)
}

/// Whether somebody listens at one of some addresses of this machine. Only what is refused says no.
#[must_use]
pub fn is_anybody_at(addresses: &[String]) -> bool {
    addresses.iter().any(|address| {
        let Ok(address) = address.parse::<SocketAddr>() else {
            return true;
        };
        let tried = std::net::TcpStream::connect_timeout(&address, PROBE);
        tried.map_or_else(
            |error| error.kind() != io::ErrorKind::ConnectionRefused,
            |_| true,
        )
    })
}

/// Where others find a server that listens at an address, as `HOST:PORT`: each of this machine's addresses when it listens
/// at all of them, at most [`MAX_INVITE_ADDRESSES`].
#[must_use]
pub fn reachable(listening: SocketAddr) -> Vec<String> {
    if !listening.ip().is_unspecified() {
        return vec![listening.to_string()];
    }
    let mut found = Vec::new();
    if let Ok(text) = std::fs::read_to_string("/proc/net/fib_trie") {
        found.extend(local_v4(&text));
    }
    if listening.is_ipv6()
        && let Ok(text) = std::fs::read_to_string("/proc/net/if_inet6")
    {
        found.extend(global_v6(&text));
    }
    if found.is_empty() {
        found.push(match listening {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    let port = listening.port();
    found
        .into_iter()
        .take(MAX_INVITE_ADDRESSES)
        .map(|ip| SocketAddr::new(ip, port).to_string())
        .collect()
}

/// This machine's addresses of IPv4 in the kernel's routing table: lines `|-- ADDRESS`, each followed by what it is.
fn local_v4(text: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut last = None;
    for line in text.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = last
            && !address.is_loopback()
            && !found.contains(&IpAddr::V4(address))
        {
            found.push(IpAddr::V4(address));
        }
    }
    found
}

/// This machine's addresses of IPv6 that are good beyond their link: lines of address, index, prefix, scope, flags, name.
fn global_v6(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = u128::from_str_radix(words.next()?, 16).ok()?;
            (words.nth(2)? == "00").then_some(IpAddr::V6(Ipv6Addr::from(address)))
        })
        .collect()
}

/// This machine's name, for people.
#[must_use]
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    crate::host::pki::clean_name(&name)
}

#[cfg(test)]
mod tests {
    use super::{connect, global_v6, listen, local_v4, reachable};

    #[test]
    fn the_addresses_of_this_machine_are_found() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 10.1.2.3\n        /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.1.2.3\n        /32 host LOCAL\n";
        assert_eq!(
            local_v4(trie),
            ["10.1.2.3".parse::<std::net::IpAddr>().unwrap()]
        );
        let v6 = "20010db8000000000000000000000001 02 40 00 80 eth0\nfe800000000000000000000000000001 02 40 20 80 eth0\n";
        assert_eq!(
            global_v6(v6),
            ["2001:db8::1".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(reachable("192.0.2.7:9".parse().unwrap()), ["192.0.2.7:9"]);
        assert!(!reachable("[::]:9".parse().unwrap()).is_empty());
    }

    #[tokio::test]
    async fn the_real_port_is_known_and_reached() {
        let (listener, address) = listen("127.0.0.1:0").await.unwrap();
        assert_ne!(address.port(), 0);
        let (near, far) = tokio::join!(connect("localhost:0"), async {
            let near = connect(&address.to_string()).await.unwrap();
            let (far, _) = listener.accept().await.unwrap();
            (near, far)
        });
        assert!(near.is_err());
        assert!(far.0.nodelay().unwrap());
        drop(far.1);
        drop(listener);
        assert!(connect(&address.to_string()).await.is_err());
        assert!(connect("no port").await.is_err());
    }
}
