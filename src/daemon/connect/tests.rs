use crate::daemon::connect::{ConnectKind, Connector};
use crate::daemon::testing::{TestServer, ask, quick};
use crate::host::dirs::Dirs;
use crate::host::tls::Rejection;
use std::sync::Arc;

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
    assert!(error.hint().contains("syncd invite"));
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
        .state_of(
            crate::host::dirs::DirKind::Server,
            &home.temp.path().join("mirror"),
        )
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
