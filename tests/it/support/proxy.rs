//! A line that a test can count, hold and cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// A proxy before a server. It ends with the process of the test.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients connect.
    pub address: String,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    server: String,
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Debug)]
struct Line {
    /// Bytes that went to the server.
    sent: u64,
    /// So many may go there.
    allowed: u64,
    /// Bytes that came back, and how many may.
    received: u64,
    allowed_back: u64,
    /// Whether new connections are refused.
    cut: bool,
    ends: Vec<TcpStream>,
}

impl Proxy {
    /// A line to the server at an address, without a limit.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            server: server.to_owned(),
            line: Mutex::new(Line {
                sent: 0,
                allowed: u64::MAX,
                received: 0,
                allowed_back: u64::MAX,
                cut: false,
                ends: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.join(client);
            }
        });
        Self { address, state }
    }

    /// Bytes that went to the server since the start.
    pub fn sent(&self) -> u64 {
        self.state.line.lock().unwrap().sent
    }

    /// Holds what follows after so many bytes to the server from now on.
    pub fn allow(&self, bytes: u64) {
        let mut line = self.state.line.lock().unwrap();
        line.allowed = line.sent.saturating_add(bytes);
        self.state.changed.notify_all();
    }

    /// Bytes that came back from the server since the start.
    pub fn received(&self) -> u64 {
        self.state.line.lock().unwrap().received
    }

    /// Holds what follows after so many bytes from the server from now on.
    pub fn allow_back(&self, bytes: u64) {
        let mut line = self.state.line.lock().unwrap();
        line.allowed_back = line.received.saturating_add(bytes);
        self.state.changed.notify_all();
    }

    /// Whether the bytes that were allowed came back.
    pub fn is_held_back(&self) -> bool {
        let line = self.state.line.lock().unwrap();
        line.received >= line.allowed_back
    }

    /// Whether the bytes that were allowed went.
    pub fn is_held(&self) -> bool {
        let line = self.state.line.lock().unwrap();
        line.sent >= line.allowed
    }

    /// Cuts all connections and lets none begin.
    pub fn cut(&self) {
        let mut line = self.state.line.lock().unwrap();
        line.cut = true;
        for end in line.ends.drain(..) {
            drop(end.shutdown(Shutdown::Both));
        }
        self.state.changed.notify_all();
    }

    /// Lets connections through again, without a limit.
    pub fn mend(&self) {
        let mut line = self.state.line.lock().unwrap();
        line.cut = false;
        line.allowed = u64::MAX;
        line.allowed_back = u64::MAX;
        self.state.changed.notify_all();
    }
}

impl Line {
    fn is_held(&self, to_server: bool) -> bool {
        if to_server {
            self.sent >= self.allowed
        } else {
            self.received >= self.allowed_back
        }
    }

    fn count(&mut self, to_server: bool) -> &mut u64 {
        if to_server {
            &mut self.sent
        } else {
            &mut self.received
        }
    }
}

impl State {
    fn join(self: &Arc<Self>, client: TcpStream) {
        let mut line = self.line.lock().unwrap();
        if line.cut {
            return;
        }
        let Ok(server) = TcpStream::connect(&self.server) else {
            return;
        };
        let (up, down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        line.ends.push(client.try_clone().unwrap());
        line.ends.push(server.try_clone().unwrap());
        let state = Arc::clone(self);
        thread::spawn(move || state.pass(up, server, true));
        let state = Arc::clone(self);
        thread::spawn(move || state.pass(down, client, false));
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, counted: bool) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            {
                let line = self.line.lock().unwrap();
                let held = |line: &mut Line| !line.cut && line.is_held(counted);
                let mut line = self.changed.wait_while(line, held).unwrap();
                if line.cut {
                    break;
                }
                *line.count(counted) += count as u64;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    }
}
