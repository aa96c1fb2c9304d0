//! Whom a server lets in, with real sockets and real TLS.

use crate::daemon::connect::{ClientStream, Connector};
use crate::daemon::join::{ExchangeError, receive, send};
use crate::daemon::server::Limits;
use crate::daemon::testing::{TestServer, ask, quick};
use crate::host::devices::Enrolling;
use crate::host::dirs::Dirs;
use crate::host::enrolment::Enrolments;
use crate::host::pki::{DeviceKey, Identity};
use crate::host::tls::{Pin, Presenting, Rejection, explain, join_config, session_config};
use crate::host::{certificate, clock, pem, private};
use crate::model::limits::MAX_JOIN_FRAME;
use crate::wire::{JoinAnswer, JoinCode, JoinRequest, JoinSecret};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

struct Fixture {
    temp: tempfile::TempDir,
    dirs: Dirs,
    server: TestServer,
}

async fn serve(limits: Limits) -> Fixture {
    let temp = tempfile::tempdir().unwrap();
    let dirs = Dirs::below(&temp.path().join("home"));
    let server = TestServer::start(&dirs, &temp.path().join("mirror"), limits).await;
    Fixture { temp, dirs, server }
}

impl Fixture {
    fn pin(&self) -> Pin {
        Connector::new(self.dirs.clone())
            .local_servers()
            .remove(0)
            .pin()
            .unwrap()
    }

    /// The server's own identity, to make certificates that it did not mean to give.
    fn identity(&self) -> Identity {
        let state = self
            .dirs
            .state_of(
                crate::host::dirs::DirKind::Server,
                &self.temp.path().join("mirror"),
            )
            .unwrap();
        Identity::open(state.path(), clock::wall()).unwrap()
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(&self.server.address).await.unwrap()
    }

    async fn tls(&self, config: Arc<ClientConfig>) -> io::Result<ClientStream> {
        let name = ServerName::try_from("syncd.invalid").unwrap();
        TlsConnector::from(config)
            .connect(name, self.tcp().await)
            .await
    }

    /// What a client learns that shows these certificates.
    async fn rejection(&self, keys: Vec<Presenting>) -> Option<Rejection> {
        let (config, _) = session_config(vec![self.pin()], keys).unwrap();
        let mut stream = self.tls(config).await.unwrap();
        explain(&ask(&mut stream).await.unwrap_err())
    }

    async fn joining(&self) -> ClientStream {
        let (config, _) = join_config(vec![self.pin()]).unwrap();
        self.tls(config).await.unwrap()
    }

    /// An honest client is served all the while.
    async fn still_serves(&self) {
        let connector = Connector::new(self.dirs.clone());
        let mut honest = connector.connect(&self.server.address).await.unwrap();
        assert_eq!(ask(&mut honest.stream).await.unwrap(), honest.device_id);
    }
}

/// A device certificate of an authority, made at `now`, to be shown to servers that name `subject`.
fn device(issuer: &Identity, subject: &[u8], now: SystemTime) -> (String, Vec<Presenting>) {
    let key = DeviceKey::generate().unwrap();
    let signed = issuer
        .sign_device(&key.request().unwrap(), "x", now)
        .unwrap();
    let chain = vec![pem::certificate(&signed.pem).unwrap()];
    (
        key.device_id(),
        presenting(chain, pem::private_key(&key.to_pem()).unwrap(), subject),
    )
}

fn presenting(
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: rustls::pki_types::PrivateKeyDer<'static>,
    subject: &[u8],
) -> Vec<Presenting> {
    let key = CertifiedKey::from_der(chain, key, &crate::host::tls::provider()).unwrap();
    vec![Presenting {
        authority_subject: subject.to_vec(),
        key: Arc::new(key),
    }]
}

fn foreign(at: &Path) -> Identity {
    private::create_dir(at).unwrap();
    Identity::open(at, clock::wall()).unwrap()
}

#[tokio::test]
async fn only_certificates_of_listed_devices_open_a_session() {
    let fixture = serve(quick()).await;
    let identity = fixture.identity();
    let subject = certificate::subject(identity.authority()).unwrap();
    let (now, day) = (clock::wall(), Duration::from_secs(86_400));
    assert_eq!(
        fixture.rejection(Vec::new()).await,
        Some(Rejection::UnknownDevice)
    );
    // Signed by the authority, but never enrolled.
    let (_, unlisted) = device(&identity, &subject, now);
    assert_eq!(
        fixture.rejection(unlisted).await,
        Some(Rejection::UnknownDevice)
    );
    let other = foreign(&fixture.temp.path().join("other"));
    let (_, stranger) = device(&other, &subject, now);
    assert_eq!(
        fixture.rejection(stranger).await,
        Some(Rejection::Authority)
    );
    for made in [now - 100 * day, now + day] {
        let (id, untimely) = device(&identity, &subject, made);
        let devices = fixture.server.trust.devices();
        let new = Enrolling {
            id: &id,
            name: "untimely",
            now,
            until: None,
        };
        devices.enrol(new).unwrap();
        assert_eq!(fixture.rejection(untimely).await, Some(Rejection::Expired));
    }
    // The server's own certificate is for servers.
    let own = presenting(
        vec![identity.certificate().clone()],
        identity.key().clone_key(),
        &subject,
    );
    assert!(fixture.rejection(own).await.is_some());
    // A listed device's certificate without its key.
    fixture.still_serves().await;
    let listed = Enrolments::of(&fixture.dirs).get(identity.server_id());
    let chain = listed.unwrap().presenting().key.cert.clone();
    let (_, mut thief) = device(&identity, &subject, now);
    let key = CertifiedKey::new(chain, thief.remove(0).key.key.clone());
    let thief = Presenting {
        authority_subject: subject,
        key: Arc::new(key),
    };
    assert_eq!(
        fixture.rejection(vec![thief]).await,
        Some(Rejection::Authority)
    );
    fixture.still_serves().await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn other_protocols_and_versions_are_refused() {
    let fixture = serve(quick()).await;
    let (config, _) = session_config(vec![fixture.pin()], Vec::new()).unwrap();
    for (alpn, expected) in [
        (vec![b"h2".to_vec()], Some(Rejection::Version)),
        (Vec::new(), Some(Rejection::UnknownDevice)),
    ] {
        let mut config = (*config).clone();
        config.alpn_protocols = alpn;
        let error = match fixture.tls(Arc::new(config)).await {
            Ok(mut stream) => ask(&mut stream).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(explain(&error), expected);
    }
    // Alert `protocol_version` (70) for TLS 1.2.
    assert_eq!(
        talk(&fixture, &hello_of_tls12()).await.get(5..7),
        Some(&[2, 70][..])
    );
    for noise in [b"GET / HTTP/1.0\r\n\r\n".to_vec(), vec![0xff; 70_000]] {
        let answer = talk(&fixture, &noise).await;
        assert!(answer.len() < 16 && !answer.starts_with(b"HTTP"));
    }
    fixture.still_serves().await;
    fixture.server.stop().await;
}

/// Sends bytes and returns what comes until the server hangs up.
async fn talk(fixture: &Fixture, bytes: &[u8]) -> Vec<u8> {
    let mut stream = fixture.tcp().await;
    // The server may hang up before all of it is taken.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    answer
}

/// A `ClientHello` that offers TLS 1.2 with one of its cipher suites and no extension but curves and signatures.
fn hello_of_tls12() -> Vec<u8> {
    let extensions = [
        &[0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x1d][..],
        &[0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03][..],
    ]
    .concat();
    let mut body = vec![0x03, 0x03];
    body.extend([7; 32]);
    body.extend([0x00, 0x00, 0x02, 0xc0, 0x2b, 0x01, 0x00]);
    body.extend([0x00, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![0x16, 0x03, 0x01, 0x00, length + 4, 0x01, 0x00, 0x00, length];
    record.extend(body);
    record
}

#[tokio::test]
async fn idlers_are_dropped_by_the_deadline_whatever_they_drip() {
    let fixture = serve(Limits {
        handshake: Duration::from_millis(300),
        ..Limits::default()
    })
    .await;
    let silent = fixture.tcp().await;
    let mut dripping = fixture.tcp().await;
    let mut joined = fixture.joining().await;
    joined.write_all(&[0x10]).await.unwrap();
    joined.flush().await.unwrap();
    let (mut drip, mut write) = dripping.split();
    let slowly = async {
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        for byte in hello_of_tls12() {
            pace.tick().await;
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
        }
    };
    let mut scratch = [0; 64];
    tokio::select! {
        () = slowly => panic!("the deadline did not hold"),
        read = drip.read(&mut scratch) => assert!(matches!(read, Ok(0) | Err(_))),
    }
    assert!(ended(silent).await);
    assert!(matches!(joined.read(&mut scratch).await, Ok(0) | Err(_)));
    fixture.still_serves().await;
    fixture.server.stop().await;
}

async fn ended(mut stream: TcpStream) -> bool {
    matches!(stream.read(&mut [0; 16]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn idlers_give_way_oldest_first_and_never_lock_a_device_out() {
    let fixture = serve(Limits {
        max_unauthenticated: 4,
        handshake: Duration::from_secs(600),
        ..Limits::default()
    })
    .await;
    let mut idlers = Vec::new();
    for _ in 0..64 {
        idlers.push(fixture.tcp().await);
        if idlers.len() % 16 == 0 {
            fixture.still_serves().await;
        }
    }
    for oldest in idlers.drain(..32) {
        assert!(ended(oldest).await);
    }
    fixture.still_serves().await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn devices_have_a_bound_of_their_own_and_are_told() {
    let fixture = serve(Limits {
        max_clients: 1,
        ..quick()
    })
    .await;
    let connector = Connector::new(fixture.dirs.clone());
    let mut first = connector.connect(&fixture.server.address).await.unwrap();
    ask(&mut first.stream).await.unwrap();
    let mut second = connector.connect(&fixture.server.address).await.unwrap();
    let mut answer = Vec::new();
    second.stream.read_to_end(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains(r#""code":"busy""#));
    drop(first);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let mut third = connector.connect(&fixture.server.address).await.unwrap();
        if ask(&mut third.stream)
            .await
            .is_ok_and(|id| id == third.device_id)
        {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
    }
    fixture.server.stop().await;
}

fn request(secret: &str) -> JoinRequest {
    JoinRequest {
        secret: JoinSecret::Local {
            secret: secret.to_owned(),
        },
        csr: DeviceKey::generate().unwrap().request().unwrap(),
        name: "guest".to_owned(),
    }
}

#[tokio::test]
async fn guessing_a_secret_is_refused_and_locks_nobody_out() {
    let fixture = serve(quick()).await;
    for guess in ["", "guess", &"0".repeat(64)] {
        let mut stream = fixture.joining().await;
        send(&mut stream, &request(guess)).await.unwrap();
        assert!(matches!(
            receive::<JoinAnswer>(&mut stream).await.unwrap(),
            JoinAnswer::Refused {
                code: JoinCode::Secret,
                ..
            }
        ));
    }
    assert!(fixture.server.trust.devices().list().is_empty());
    fixture.still_serves().await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn a_join_frame_is_bounded_and_its_request_understood_or_refused() {
    let fixture = serve(quick()).await;
    let mut stream = fixture.joining().await;
    let announced = (MAX_JOIN_FRAME + 1).to_le_bytes();
    stream.write_all(&announced).await.unwrap();
    stream.write_all(&[0; 64]).await.unwrap();
    stream.flush().await.unwrap();
    let answer = receive::<JoinAnswer>(&mut stream).await;
    assert!(matches!(answer, Err(ExchangeError::Io(_))), "{answer:?}");
    // A body is not allowed at all.
    let mut stream = fixture.joining().await;
    stream
        .write_all(&[1, 0, 0, 0, 1, 0, 0, 0, b'x', b'x'])
        .await
        .unwrap();
    stream.flush().await.unwrap();
    assert!(receive::<JoinAnswer>(&mut stream).await.is_err());
    let unknown = serde_json::json!({"secret": {"kind": "moon"}, "csr": "", "name": ""});
    let secret = Connector::new(fixture.dirs.clone())
        .local_servers()
        .remove(0)
        .secret;
    let keyless =
        serde_json::json!({"secret": {"kind": "local", "secret": secret}, "csr": "", "name": ""});
    for message in [unknown, keyless] {
        let mut stream = fixture.joining().await;
        send(&mut stream, &message).await.unwrap();
        assert!(matches!(
            receive::<JoinAnswer>(&mut stream).await.unwrap(),
            JoinAnswer::Refused {
                code: JoinCode::Request,
                ..
            }
        ));
    }
    fixture.still_serves().await;
    fixture.server.stop().await;
}

#[tokio::test]
async fn strangers_do_not_delay_the_end() {
    let fixture = serve(Limits {
        handshake: Duration::from_secs(600),
        ..Limits::default()
    })
    .await;
    let idler = fixture.tcp().await;
    fixture.still_serves().await;
    let stopped = tokio::time::timeout(Duration::from_secs(4), fixture.server.stop()).await;
    assert!(stopped.is_ok());
    assert!(ended(idler).await);
}

/// Set for the process that plays the server of the next test.
const STARVING: &str = "SYNCD_TEST_STARVING";

/// The descriptors of a process run out, which only a process of its own may do. The test runs itself again as the
/// server: that one prints its address and ends with its standard input.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_free_descriptors_idlers_go_and_a_device_is_served() {
    if let Some(home) = std::env::var_os(STARVING) {
        return starve(Path::new(&home)).await;
    }
    let temp = tempfile::tempdir().unwrap();
    let name = "daemon::server::tests::without_free_descriptors_idlers_go_and_a_device_is_served";
    let mut child = again(temp.path(), name);
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .by_ref()
        .find_map(|line| line.unwrap().strip_prefix("at ").map(str::to_owned))
        .unwrap();
    let mut idlers = Vec::new();
    for _ in 0..100 {
        idlers.push(TcpStream::connect(&address).await.unwrap());
    }
    let connector = Connector::new(Dirs::below(temp.path()));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = connector.connect(&address).await {
        assert!(tokio::time::Instant::now() < deadline, "{error:?}");
    }
    assert!(ended(idlers.remove(0)).await);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

fn again(home: &Path, name: &str) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(STARVING, home)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

async fn starve(home: &Path) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limits = Limits {
        handshake: Duration::from_secs(600),
        ..Limits::default()
    };
    let server = TestServer::start(&Dirs::below(home), &home.join("mirror"), limits).await;
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let limit = Rlimit {
        current: Some(u64::try_from(open).unwrap() + 12),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    println!("\nat {}", server.address);
    let wait = || std::io::stdin().read_line(&mut String::new());
    tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
    server.stop().await;
}
