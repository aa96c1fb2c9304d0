//! Certificates of one's own in `[tls]`: what opens a session, and what both sides say of what does not.

use crate::support::daemon::Daemon;
use crate::support::proxy::Proxy;
use crate::support::sandbox::{Finished, Sandbox};
use crate::support::{files, tree, wait};
use rcgen::{
    CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(86_400);
const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;
const CLIENT: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ClientAuth;

/// An authority of a test's own, and its certificate.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `NAME.pem`, `NAME.key` and `NAME.ca` (the authorities that its holder believes) to `directory`. A key that
    /// is there stays.
    fn give(&self, directory: &Path, name: &str, leaf: &Leaf, believes: &Self) {
        let key = match fs::read_to_string(directory.join(format!("{name}.key"))) {
            Ok(text) => KeyPair::from_pem(&text).unwrap(),
            Err(_) => KeyPair::generate().unwrap(),
        };
        let mut params = CertificateParams::default();
        params.subject_alt_names = leaf.names.clone();
        params.extended_key_usages = vec![leaf.purpose.clone()];
        let now = SystemTime::now();
        params.not_before = (now + leaf.from - 10 * DAY).into();
        params.not_after = (now + leaf.until - 10 * DAY).into();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let write = |kind: &str, text: &str| {
            let path = directory.join(format!("{name}.{kind}"));
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("pem", &certificate.pem());
        write("key", &key.serialize_pem());
        write("ca", &believes.0.pem());
        let table = format!(
            "[tls]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\nca = \"{name}.ca\"\n"
        );
        write("toml", &table);
    }
}

/// What a certificate is for. Its time is counted from ten days ago.
struct Leaf {
    names: Vec<SanType>,
    purpose: ExtendedKeyUsagePurpose,
    from: Duration,
    until: Duration,
}

fn leaf(purpose: ExtendedKeyUsagePurpose) -> Leaf {
    let names = match purpose {
        ExtendedKeyUsagePurpose::ServerAuth => {
            vec![SanType::IpAddress("127.0.0.1".parse().unwrap())]
        }
        _ => Vec::new(),
    };
    Leaf {
        names,
        purpose,
        from: Duration::ZERO,
        until: 20 * DAY,
    }
}

fn serve(sandbox: &Sandbox, settings: &str) -> (Daemon, String) {
    let mut command = sandbox.syncd();
    let listen = "127.0.0.1:0";
    command.args(["server", "-d", "mirror", "-c", settings, "--listen", listen]);
    Daemon::server_with(sandbox, settings, &mut command)
}

/// `--once` of another home with its own certificates.
fn once(sandbox: &Sandbox, settings: &str, address: &str) -> Finished {
    let mut command = sandbox.syncd_of("away");
    command.args(["client", "-d", "source", "--once"]);
    command.args(["-c", settings, "--server", address]);
    Finished::of(command.output().unwrap())
}

fn here(sandbox: &Sandbox, arguments: &[&str]) -> Finished {
    let run = sandbox.run(arguments);
    assert_eq!(run.code, Some(0), "{arguments:?}: {}", run.err);
    run
}

#[test]
fn a_set_of_certs_init_is_all_that_both_sides_need() {
    let sandbox = Sandbox::new();
    let source = sandbox.dir("source");
    files::write(&source, "a/b", "hello");
    let made = here(&sandbox, &["certs", "init", "--client", "laptop"]);
    assert!(made.out.contains("certs/laptop.key"), "{}", made.out);
    assert!(made.err.contains("certs/README.md"), "{}", made.err);
    for name in ["server", "laptop"] {
        let table =
            format!("[tls]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\nca = \"ca.pem\"\n");
        fs::write(sandbox.path(&format!("certs/{name}.toml")), table).unwrap();
    }
    let (mut server, address) = serve(&sandbox, "certs/server.toml");
    let run = once(&sandbox, "certs/laptop.toml", &address);
    assert_eq!(run.code, Some(5), "{}", run.err);
    assert!(
        run.err.contains("syncd invite --certificate"),
        "{}",
        run.err
    );
    let enrol = ["invite", "--certificate", "certs/laptop.pem", "--name"];
    let enrolled = here(&sandbox, &[&enrol[..], &["laptop", "--root"]].concat());
    assert_eq!(enrolled.out, "enrolled `laptop`\n");
    // By address and by name: both stand in the certificate.
    for address in [&address, &address.replace("127.0.0.1", "localhost")] {
        let run = once(&sandbox, "certs/laptop.toml", address);
        assert_eq!(run.code, Some(0), "{}", run.err);
    }
    assert!(tree::differences(&source, &sandbox.path("mirror")).is_empty());
    // Clients without certificates of their own go on as before.
    let usual = sandbox.run(&["client", "-d", "source", "--once", "--server", &address]);
    assert_eq!(usual.code, Some(5), "{}", usual.err);
    assert!(usual.err.contains("--take-over"), "{}", usual.err);
    // New certificates for the keys that are there: nothing has to be enrolled again.
    server.stop();
    let renew = ["certs", "init", "--client", "laptop", "--renew"];
    let renew = [&renew[..], &["--valid", "3years"]].concat();
    assert_eq!(here(&sandbox, &renew).out.lines().count(), 2);
    let (_server, address) = serve(&sandbox, "certs/server.toml");
    let run = once(&sandbox, "certs/laptop.toml", &address);
    assert_eq!(run.code, Some(0), "{}", run.err);
    // The list follows what the device shows.
    let clients: Value = serde_json::from_str(&here(&sandbox, &["clients", "--json"]).out).unwrap();
    let laptop = clients
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["name"] == "laptop");
    let years = SystemTime::UNIX_EPOCH.elapsed().unwrap() + 900 * DAY;
    let until = laptop.unwrap()["certificate_until"].as_u64();
    assert!(until > Some(years.as_secs()), "{clients}");
    here(&sandbox, &["revoke", "laptop"]);
    let run = once(&sandbox, "certs/laptop.toml", &address);
    assert_eq!(run.code, Some(5), "{}", run.err);
    assert!(run.err.contains("make another one"), "{}", run.err);
}

#[test]
fn a_server_that_is_not_the_meant_one_is_refused_by_the_client() {
    let sandbox = Sandbox::new();
    sandbox.dir("source");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let root = sandbox.root();
    ours.give(root, "me", &leaf(CLIENT), &ours);
    let ended = Leaf {
        until: 9 * DAY,
        ..leaf(SERVER)
    };
    let early = Leaf {
        from: 11 * DAY,
        ..leaf(SERVER)
    };
    let other = Leaf {
        names: vec![SanType::IpAddress("192.0.2.1".parse().unwrap())],
        ..leaf(SERVER)
    };
    for (name, authority, leaf, texts) in [
        (
            "authority",
            &theirs,
            leaf(SERVER),
            ["another authority", "`ca` in `[tls]`"],
        ),
        ("ended", &ours, ended, ["expired", "certs init --renew"]),
        (
            "early",
            &ours,
            early,
            ["not valid yet", "compare the clocks"],
        ),
        (
            "other",
            &ours,
            other,
            ["not for the name that was dialled", "--host NAME"],
        ),
        (
            "purpose",
            &ours,
            leaf(CLIENT),
            ["not acceptable", "certs init"],
        ),
    ] {
        authority.give(root, name, &leaf, authority);
        let (mut server, address) = serve(&sandbox, &format!("{name}.toml"));
        let run = once(&sandbox, "me.toml", &address);
        assert_eq!(run.code, Some(5), "{name}: {}", run.err);
        for text in texts {
            assert!(run.err.contains(text), "{name}: `{text}`: {}", run.err);
        }
        let told = server.err().contains("has expired, and clients refuse it");
        assert_eq!(told, name == "ended", "{name}: {}", server.err());
        server.stop();
    }
}

/// A client is refused: it says `there`, and the server's log `here_said`. All but the stranger are enrolled first.
fn is_turned_away(
    sandbox: &Sandbox,
    server: &Daemon,
    address: &str,
    name: &str,
    there: [&str; 2],
    here_said: &str,
) {
    if name != "stranger" {
        let enrol = ["invite", "--certificate", &format!("{name}.pem"), "--name"];
        here(sandbox, &[&enrol[..], &[name, "--root"]].concat());
    }
    if name == "gone" {
        here(sandbox, &["revoke", name]);
    }
    let run = once(sandbox, &format!("{name}.toml"), address);
    assert_eq!(run.code, Some(5), "{name}: {}", run.err);
    for text in there {
        assert!(run.err.contains(text), "{name}: `{text}`: {}", run.err);
    }
    // What a run opens it closes in order, so that the next one trusts it.
    assert!(!run.err.contains("crashed"), "{name}: {}", run.err);
    let said = || {
        let log = server.err();
        let mut lines = log
            .lines()
            .filter(|line| line.contains("turned a client away"));
        lines.any(|line| line.contains(here_said))
    };
    assert!(
        wait::until(wait::PATIENCE, said),
        "{name}: {}",
        server.err()
    );
}

#[test]
fn a_client_that_is_not_known_is_refused_by_the_server_and_both_say_so() {
    let sandbox = Sandbox::new();
    sandbox.dir("source");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let root = sandbox.root();
    ours.give(root, "server", &leaf(SERVER), &ours);
    let (server, address) = serve(&sandbox, "server.toml");
    let ended = Leaf {
        until: 9 * DAY,
        ..leaf(CLIENT)
    };
    let early = Leaf {
        from: 11 * DAY,
        ..leaf(CLIENT)
    };
    for (name, authority, leaf, there, here_said) in [
        (
            "authority",
            &theirs,
            leaf(CLIENT),
            ["another authority", "`ca` in `[tls]`"],
            "another authority",
        ),
        (
            "ended",
            &ours,
            ended,
            ["expired", "certs init --renew"],
            "expired",
        ),
        (
            "early",
            &ours,
            early,
            ["not yet valid", "compare the clocks"],
            "not valid yet",
        ),
        (
            "purpose",
            &ours,
            leaf(SERVER),
            ["not made for this side", "clientAuth"],
            "not acceptable",
        ),
        (
            "stranger",
            &ours,
            leaf(CLIENT),
            ["does not know this device", "invite --certificate"],
            "not enrolled",
        ),
        (
            "gone",
            &ours,
            leaf(CLIENT),
            ["revoked", "make another one"],
            "it was revoked",
        ),
    ] {
        authority.give(root, name, &leaf, &ours);
        is_turned_away(&sandbox, &server, &address, name, there, here_said);
    }
    let mirrored = tree::differences(&sandbox.path("source"), &sandbox.path("mirror"));
    assert!(mirrored.is_empty(), "{mirrored:?}");
}

/// The server reads its files again every quarter of a second where its own kind of certificate lasts three seconds, else
/// every minute; the client reads them for each connection.
#[test]
fn certificates_that_are_replaced_on_disk_are_used_without_a_restart() {
    let sandbox = Sandbox::new();
    let (source, mirror) = (sandbox.dir("source"), sandbox.path("mirror"));
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let root = sandbox.root();
    ours.give(root, "server", &leaf(SERVER), &ours);
    ours.give(root, "me", &leaf(CLIENT), &ours);
    let table = fs::read_to_string(root.join("server.toml")).unwrap();
    let brief = table + "server_lifetime = \"3s\"\n";
    fs::write(root.join("brief.toml"), brief).unwrap();
    let (_server, address) = serve(&sandbox, "brief.toml");
    let enrol = ["invite", "--certificate", "me.pem", "--name", "me"];
    here(&sandbox, &[&enrol[..], &["--root"]].concat());
    let line = Proxy::to(&address);
    let mut command = sandbox.syncd_of("away");
    command.args(["client", "-d", "source", "-c", "me.toml"]);
    let client = Daemon::start(&sandbox, "away", command.args(["--server", &line.address]));
    let mirrors = |text: &str| {
        files::write(&source, "f", text);
        tree::assert_converges(&source, &mirror);
    };
    let comes_again = || {
        line.cut();
        line.mend();
    };
    let list = || {
        let mut command = sandbox.syncd_of("away");
        command.args(["list", "-c", "me.toml", "--server", &address]);
        Finished::of(command.output().unwrap())
    };
    mirrors("at first");
    assert_eq!(list().code, Some(0), "{}", list().err);

    // From then on the server shows what this client does not believe; the connection that is open lasts.
    theirs.give(root, "server", &leaf(SERVER), &ours);
    assert!(wait::until(wait::PATIENCE, || list().code == Some(5)));
    mirrors("while it lasts");
    comes_again();
    let refused = || client.err().contains("another authority");
    assert!(wait::until(wait::PATIENCE, refused), "{}", client.err());
    ours.give(root, "server", &leaf(SERVER), &ours);
    mirrors("believed again");

    let until = || {
        let clients: Value =
            serde_json::from_str(&here(&sandbox, &["clients", "--json"]).out).unwrap();
        clients[0]["certificate_until"].as_u64().unwrap()
    };
    let first = until();
    let longer = Leaf {
        until: 40 * DAY,
        ..leaf(CLIENT)
    };
    ours.give(root, "me", &longer, &ours);
    comes_again();
    let renewed = || until() > first;
    assert!(wait::until(wait::PATIENCE, renewed), "{}", client.err());
    mirrors("renewed");
}

/// A client that believes every server and remembers sessions.
#[derive(Debug)]
struct Believer;

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn believer(alpn: &[u8], key: Option<(&Path, &Path)>) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer));
    let mut config = match key {
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

/// A handshake and bytes that are no frame: how it went, and whether the session was a resumed one.
fn talk(address: &str, config: &Arc<ClientConfig>) -> (String, Option<HandshakeKind>) {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut tcp = std::net::TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut tcp);
    let mut answer = Vec::new();
    let outcome = stream
        .write_all(&[0xff; 64])
        .and_then(|()| stream.read_to_end(&mut answer));
    let said = match outcome {
        Ok(_) => String::from_utf8_lossy(&answer).into_owned(),
        Err(error) => error.to_string(),
    };
    (said, session.handshake_kind())
}

#[test]
fn no_certificate_and_other_protocols_are_refused_and_nothing_is_resumed() {
    let sandbox = Sandbox::new();
    let ours = Authority::new("ours");
    let root = sandbox.root();
    ours.give(root, "server", &leaf(SERVER), &ours);
    ours.give(root, "me", &leaf(CLIENT), &ours);
    let (server, address) = serve(&sandbox, "server.toml");
    let enrol = [
        "invite",
        "--certificate",
        "me.pem",
        "--name",
        "me",
        "--root",
    ];
    here(&sandbox, &enrol);
    let (certificate, key) = (root.join("me.pem"), root.join("me.key"));
    let me = Some((certificate.as_path(), key.as_path()));
    for (alpn, key, answer) in [
        (&b"h2"[..], me, "NoApplicationProtocol"),
        (b"syncd/9", me, "NoApplicationProtocol"),
        (b"syncd/1", None, "CertificateRequired"),
    ] {
        let (said, _) = talk(&address, &believer(alpn, key));
        assert!(said.contains(answer), "{said}");
    }
    for text in ["no common version of the protocol", "showed no certificate"] {
        let said = || server.err().contains(text);
        assert!(
            wait::until(wait::PATIENCE, said),
            "{text}: {}",
            server.err()
        );
    }
    // A session that is resumed would pass by the list of devices.
    let config = believer(b"syncd/1", me);
    for _ in 0..2 {
        let (said, kind) = talk(&address, &config);
        assert!(said.contains("refused"), "{said}");
        assert!(
            matches!(
                kind,
                Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
            ),
            "{kind:?}"
        );
    }
    here(&sandbox, &["revoke", "me"]);
    let (said, _) = talk(&address, &config);
    assert!(said.contains("CertificateRevoked"), "{said}");
}
