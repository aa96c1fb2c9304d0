//! A server whose keys are reached by the memcached protocol, and a client of that protocol.

use super::daemon::Daemon;
use super::sandbox::Sandbox;
use super::wait;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

/// Starts a server of `mirror` with `[kv]` set so, on free ports. Its address, and that of the memcached port.
pub fn serve(sandbox: &Sandbox, kv: &str) -> (Daemon, String, String) {
    serve_with(sandbox, kv, |_| {})
}

/// The same with a command that is changed before.
pub fn serve_with(
    sandbox: &Sandbox,
    kv: &str,
    change: impl FnOnce(&mut Command),
) -> (Daemon, String, String) {
    let settings = sandbox.path("server.toml");
    fs::write(
        &settings,
        format!("[kv]\nmemcached = \"127.0.0.1:0\"\n{kv}\n"),
    )
    .unwrap();
    let mut command = sandbox.syncd();
    command
        .args(["server", "--listen", "127.0.0.1:0", "-d"])
        .arg(sandbox.dir("mirror"))
        .arg("-c")
        .arg(settings);
    change(&mut command);
    let (server, address) = Daemon::server_with(sandbox, "server", &mut command);
    let out = server.out();
    let port = out
        .lines()
        .find_map(|line| line.strip_prefix("memcached listening on "));
    let port = port.expect("the port is printed").to_owned();
    (server, address, port)
}

/// A connection of a client.
pub struct Client(TcpStream);

impl Client {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Sends bytes; whether the line took them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    /// Exactly so many bytes; none when the line ends before.
    pub fn receive(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    /// A line without its end; none when the connection ends.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.receive(1)?);
        }
        line.truncate(line.len() - 2);
        Some(String::from_utf8(line).unwrap())
    }

    /// Sends a request and takes exactly the answer that is expected.
    pub fn says(&mut self, request: impl AsRef<[u8]>, expected: impl AsRef<[u8]>) {
        let (request, expected) = (request.as_ref(), expected.as_ref());
        assert!(self.send(request));
        let found = self
            .receive(expected.len())
            .expect("the connection goes on");
        let shown = |bytes: &[u8]| syncd::model::escape(&bytes[..bytes.len().min(200)]);
        assert!(
            found == expected,
            "`{}`: expected `{}`, found `{}`",
            shown(request),
            shown(expected),
            shown(&found)
        );
    }

    /// Whether the server ends the connection without another word.
    pub fn ends(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(0))
    }

    /// Stores a value in a few words.
    pub fn set(&mut self, key: &str, value: impl AsRef<[u8]>) -> Option<String> {
        let value = value.as_ref();
        let mut request = format!("set {key} 0 0 {}\r\n", value.len()).into_bytes();
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
        self.send(request).then(|| self.line()).flatten()
    }

    /// The value of a key.
    pub fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        assert!(self.send(format!("get {key}\r\n")));
        let line = self.line().unwrap();
        if line == "END" {
            return None;
        }
        let length = line.rsplit(' ').next().unwrap().parse::<usize>();
        let value = self.receive(length.expect(&line)).unwrap();
        assert_eq!(self.receive(7).unwrap(), b"\r\nEND\r\n");
        Some(value)
    }
}
