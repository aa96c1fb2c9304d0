use crate::daemon::connect::{ConnectError, ConnectKind, Connector};
use crate::daemon::testing::{TestServer, ask, quick};
use crate::host::dirs::{DirKind, Dirs};
use crate::host::invite::LocalInvite;
use crate::host::pki::Identity;
use crate::host::tls::Rejection;
use crate::host::{clock, net, private};
use crate::wire::JoinCode;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

struct Home {
    temp: tempfile::TempDir,
    dirs: Dirs,
}

fn home() -> Home {
    let temp = tempfile::tempdir().unwrap();
    let dirs = Dirs::below(&temp.path().join("home"));
    std::fs::create_dir(temp.path().join("mirror")).unwrap();
    Home { temp, dirs }
}

impl Home {
    async fn serve(&self) -> TestServer {
        TestServer::start(&self.dirs, &self.temp.path().join("mirror"), quick()).await
    }
}

#[tokio::test]
async fn a_client_of_the_same_home_enrols_itself_and_comes_back() {
    let home = home();
    let server = home.serve().await;
    let connector = Connector::new(home.dirs.clone());
    let mut first = connector.connect(&server.address).await.unwrap();
    assert_eq!(first.server_id, server.trust.server_id());
    assert_eq!(ask(&mut first.stream).await.unwrap(), first.device_id);
    let mut second = Connector::new(home.dirs.clone())
        .connect(&server.address)
        .await
        .unwrap();
    assert_eq!(ask(&mut second.stream).await.unwrap(), first.device_id);
    assert_eq!(server.trust.devices().list().len(), 1);
    // A name for the same address is as good: the address proves nothing.
    let other = server.address.replace("127.0.0.1", "localhost");
    assert!(connector.connect(&other).await.is_ok());
    assert_eq!(connector.local_servers().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_restarted_server_is_recognised_and_a_new_one_enrols_again() {
    let home = home();
    let connector = Connector::new(home.dirs.clone());
    let server = home.serve().await;
    let old = connector.connect(&server.address).await.unwrap().server_id;
    server.stop().await;
    let server = home.serve().await;
    let same = connector.connect(&server.address).await.unwrap();
    assert_eq!(same.server_id, old);
    assert_eq!(server.trust.devices().list().len(), 1);
    server.stop().await;
    std::fs::remove_dir_all(home.dirs.state()).unwrap();
    let server = home.serve().await;
    let mut new = connector.connect(&server.address).await.unwrap();
    assert_ne!(new.server_id, old);
    assert_eq!(ask(&mut new.stream).await.unwrap(), new.device_id);
    assert_eq!(connector.local_servers().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_home_without_an_invite_is_told_so() {
    let home = home();
    let server = home.serve().await;
    let stranger = tempfile::tempdir().unwrap();
    let connector = Connector::new(Dirs::below(stranger.path()));
    let error = connector.connect(&server.address).await.unwrap_err();
    assert_eq!(error.kind(), ConnectKind::NoInvite);
    assert!(error.hint().contains("HOME"));
    assert!(server.trust.devices().list().is_empty());
    // Nothing is left in the home of a stranger.
    assert_eq!(std::fs::read_dir(stranger.path()).unwrap().count(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_that_start_at_once_enrol_once() {
    let home = home();
    let server = home.serve().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (dirs, address) = (home.dirs.clone(), server.address.clone());
        tasks.spawn(async move {
            let mut connection = Connector::new(dirs).connect(&address).await.unwrap();
            ask(&mut connection.stream).await.unwrap()
        });
    }
    let ids: std::collections::HashSet<String> = tasks.join_all().await.into_iter().collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(server.trust.devices().list().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_device_is_cut_off_and_stays_out() {
    let home = home();
    let server = home.serve().await;
    let connector = Arc::new(Connector::new(home.dirs.clone()));
    let mut live = connector.connect(&server.address).await.unwrap();
    ask(&mut live.stream).await.unwrap();
    let id = live.device_id.clone();
    server.trust.revoke(&id).unwrap();
    let mut again = connector.connect(&server.address).await.unwrap();
    let error = ask(&mut again.stream).await.unwrap_err();
    assert_eq!(
        connector.rejected(&again.server_id, &error),
        Some(Rejection::Revoked)
    );
    // A new key of the same home is no way around it.
    std::fs::remove_dir_all(home.dirs.enrolments()).unwrap();
    let error = connector.connect(&server.address).await.unwrap_err();
    assert_eq!(error.kind(), ConnectKind::NoInvite);
    server.trust.reopen_local().unwrap();
    let mut fresh = connector.connect(&server.address).await.unwrap();
    assert_eq!(ask(&mut fresh.stream).await.unwrap(), fresh.device_id);
    server.stop().await;
}

#[tokio::test]
async fn a_device_that_the_server_forgot_enrols_again_with_its_key() {
    let home = home();
    let server = home.serve().await;
    let connector = Connector::new(home.dirs.clone());
    let id = connector.connect(&server.address).await.unwrap().device_id;
    server.stop().await;
    let state = home
        .dirs
        .state_of(DirKind::Server, &home.temp.path().join("mirror"))
        .unwrap();
    std::fs::remove_file(state.path().join("devices.json")).unwrap();
    let server = home.serve().await;
    let mut lost = connector.connect(&server.address).await.unwrap();
    let error = ask(&mut lost.stream).await.unwrap_err();
    assert_eq!(
        connector.rejected(&lost.server_id, &error),
        Some(Rejection::UnknownDevice)
    );
    let mut found = connector.connect(&server.address).await.unwrap();
    assert_eq!(ask(&mut found.stream).await.unwrap(), id);
    server.stop().await;
}

/// Puts an invite for a server's identity into a home.
fn invite(home: &Home, identity: &Identity) {
    LocalInvite::new(identity, Vec::new(), home.temp.path())
        .unwrap()
        .publish(&home.dirs)
        .unwrap();
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_in_force_is_refused() {
    let day = Duration::from_secs(86_400);
    for made in [clock::wall() - 400 * day, clock::wall() + day] {
        let home = home();
        let mirror = home.temp.path().join("mirror");
        let server = TestServer::start_at(&home.dirs, &mirror, quick(), made).await;
        let connector = Connector::new(home.dirs.clone());
        let error = connector.connect(&server.address).await.unwrap_err();
        assert!(
            matches!(
                error,
                ConnectError::Refused {
                    source: Rejection::PeerCertificate(_),
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(error.kind(), ConnectKind::Refused);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_only_claims_an_id_is_refused() {
    let home = home();
    let server = home.serve().await;
    let connector = Connector::new(home.dirs.clone());
    connector.connect(&server.address).await.unwrap();
    // Another authority that gives itself the same id.
    let lair = Home {
        temp: tempfile::tempdir().unwrap(),
        dirs: Dirs::below(home.temp.path().join("lair").as_path()),
    };
    let state = lair
        .dirs
        .state_of(DirKind::Server, lair.temp.path())
        .unwrap();
    forge_authority(state.path(), server.trust.server_id());
    let forger = TestServer::start(&lair.dirs, lair.temp.path(), quick()).await;
    assert_eq!(forger.trust.server_id(), server.trust.server_id());
    let error = connector.connect(&forger.address).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Refused {
                source: Rejection::Authority,
                ..
            }
        ),
        "{error:?}"
    );
    forger.stop().await;
    server.stop().await;
}

fn forge_authority(state: &Path, id: &str) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let name = format!("syncd authority {id}");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let uri = format!("syncd://server/{id}").try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let text = key.serialize_pem() + &params.self_signed(&key).unwrap().pem();
    private::write(&state.join("authority.pem"), text.as_bytes()).unwrap();
}

#[tokio::test]
async fn a_device_is_no_server() {
    let home = home();
    let server = home.serve().await;
    let connector = Connector::new(home.dirs.clone());
    connector.connect(&server.address).await.unwrap();
    let own = connector.enrolments.get(server.trust.server_id()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(crate::host::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
            own.presenting().key,
        )));
    let (listener, address) = net::listen("127.0.0.1:0").await.unwrap();
    let impostor = async {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
            .accept(stream)
            .await
    };
    let address = address.to_string();
    let (met, error) = tokio::join!(impostor, connector.connect(&address));
    assert!(met.is_err());
    assert_eq!(error.unwrap_err().kind(), ConnectKind::Refused);
    server.stop().await;
}

#[tokio::test]
async fn something_else_at_the_address_is_named() {
    let home = home();
    let (listener, address) = net::listen("127.0.0.1:0").await.unwrap();
    let web = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.0 400 no\r\n\r\n").await.unwrap();
        stream
    };
    let connector = Connector::new(home.dirs.clone());
    let address = address.to_string();
    let (_stream, error) = tokio::join!(web, connector.connect(&address));
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Refused {
                source: Rejection::NoTls,
                ..
            }
        ),
        "{error:?}"
    );
    drop(listener);
    let error = connector.connect("127.0.0.1:1").await.unwrap_err();
    assert_eq!(error.kind(), ConnectKind::Unreachable);
}

#[tokio::test]
async fn an_expired_device_enrols_again_with_its_key_and_an_ending_one_when_it_can() {
    let home = home();
    let server = home.serve().await;
    let connector = Connector::new(home.dirs.clone());
    let id = connector.connect(&server.address).await.unwrap().device_id;
    let state = home
        .dirs
        .state_of(DirKind::Server, &home.temp.path().join("mirror"))
        .unwrap();
    let identity = Identity::open(state.path(), clock::wall()).unwrap();
    let server_id = identity.server_id().to_owned();
    let day = Duration::from_secs(86_400);
    let age = |days: u32| {
        let key = connector.enrolments.key(&server_id).unwrap();
        let made = clock::wall() - days * day;
        let signed = identity
            .sign_device(&key.request().unwrap(), "x", made)
            .unwrap();
        let text = key.to_pem() + &signed.pem + identity.authority_pem();
        let path = home.dirs.enrolments().join(&server_id).join("device.pem");
        private::write(&path, text.as_bytes()).unwrap();
    };
    for days in [100, 70] {
        age(days);
        let mut again = connector.connect(&server.address).await.unwrap();
        assert_eq!(ask(&mut again.stream).await.unwrap(), id);
        let left = connector.enrolments.get(&server_id).unwrap();
        assert!(left.remaining(clock::wall()) > 80 * day);
    }
    // A stale invite spoils no certificate that still holds.
    age(70);
    invite(&home, &identity);
    let mut again = connector.connect(&server.address).await.unwrap();
    assert_eq!(ask(&mut again.stream).await.unwrap(), id);
    // But one that has ended is out, until the server leaves a new invite.
    age(100);
    let error = connector.connect(&server.address).await.unwrap_err();
    assert!(matches!(
        error,
        ConnectError::NotEnrolled {
            code: JoinCode::Secret,
            ..
        }
    ));
    assert_eq!(error.kind(), ConnectKind::Unreachable);
    server.stop().await;
    let server = home.serve().await;
    let mut again = connector.connect(&server.address).await.unwrap();
    assert_eq!(ask(&mut again.stream).await.unwrap(), id);
    server.stop().await;
}

#[tokio::test]
async fn keys_that_others_could_read_are_not_used() {
    let home = home();
    let server = home.serve().await;
    let connector = Connector::new(home.dirs.clone());
    let old = connector.connect(&server.address).await.unwrap().device_id;
    let path = home
        .dirs
        .enrolments()
        .join(server.trust.server_id())
        .join("device.pem");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let new = connector.connect(&server.address).await.unwrap().device_id;
    assert_ne!(new, old);
    assert_eq!(mode(&path), 0o600);
    server.stop().await;
}
