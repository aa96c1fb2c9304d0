//! A line that carries only so many bytes a second to the server.

use super::wait;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What the line holds besides what waits at its ends, in bytes.
const BUFFER: usize = 32 * 1024;

/// A relay before a server. Its threads end with their connections, the last with the process.
#[derive(Debug)]
pub struct SlowLine {
    /// Where to connect instead.
    pub address: String,
    carried: Arc<AtomicU64>,
}

impl SlowLine {
    /// A line to `server` that carries `rate` bytes a second there, and whatever comes back at once.
    pub fn to(server: &str, rate: u32) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Connections inherit it: otherwise the system takes megabytes in before anybody has to wait.
        socket.set_recv_buffer_size(BUFFER).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        socket.listen(16).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap().to_string();
        let carried = Arc::new(AtomicU64::new(0));
        let (count, server) = (Arc::clone(&carried), server.to_owned());
        thread::spawn(move || {
            for near in listener.incoming() {
                let Ok((near, far)) =
                    near.and_then(|near| Ok((near, TcpStream::connect(&server)?)))
                else {
                    continue;
                };
                let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
                let count = Arc::clone(&count);
                thread::spawn(move || carry(near, far, Some((rate, count))));
                thread::spawn(move || carry(back.0, back.1, None));
            }
        });
        Self { address, carried }
    }

    /// Bytes that were carried to the server so far.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

/// Carries one direction until it ends. What was not carried for a while is not made up for.
fn carry(mut from: TcpStream, mut to: TcpStream, limit: Option<(u32, Arc<AtomicU64>)>) {
    let mut buffer = vec![0; BUFFER / 2];
    let mut free = Instant::now();
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if let Some((rate, count)) = &limit {
            free = free.max(Instant::now()) + Duration::from_secs(length as u64) / *rate;
            let _in_time = wait::until(free.saturating_duration_since(Instant::now()), || false);
            count.fetch_add(length as u64, Ordering::Relaxed);
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other end may be gone already.
    drop(to.shutdown(Shutdown::Write));
}
