use crate::daemon::control::{ControlError, MAX_QUESTION, ask, find, serve};
use crate::host::control::ControlSocket;
use crate::host::dirs::{DirKind, Dirs, StateDir};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn start(dirs: &Dirs, state: &StateDir) -> (CancellationToken, JoinHandle<()>) {
    let socket = ControlSocket::bind(dirs, state).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(socket, stop.clone(), |question: Value| async move {
        if question == json!("wait") {
            std::future::pending::<()>().await;
        }
        json!({ "asked": question })
    }));
    (stop, task)
}

#[tokio::test]
async fn a_daemon_is_found_by_its_directory_and_answers() {
    let temp = tempfile::tempdir().unwrap();
    // A home whose path no socket address holds.
    let dirs = Dirs::below(&temp.path().join("h".repeat(120)));
    let (a, b) = (temp.path().join("a"), temp.path().join("b"));
    let state = dirs.state_of(DirKind::Server, &a).unwrap();
    let other = dirs.state_of(DirKind::Source, &b).unwrap();
    let _claims = (state.claim().unwrap(), other.claim().unwrap());
    let (stop, task) = start(&dirs, &state);
    let (stop_other, task_other) = start(&dirs, &other);
    let answer = ask(&dirs, DirKind::Server, &a, &json!({"op": "status"}))
        .await
        .unwrap();
    assert_eq!(answer, json!({"asked": {"op": "status"}}));
    assert_eq!(find(&dirs, None).await.unwrap().len(), 2);
    assert!(matches!(
        ask(&dirs, DirKind::Source, &a, &json!({})).await,
        Err(ControlError::NoDaemon(_))
    ));
    let sockets = dirs.sockets().unwrap();
    for entry in std::fs::read_dir(&sockets).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    stop.cancel();
    task.await.unwrap();
    assert!(matches!(
        find(&dirs, Some(&a)).await,
        Err(ControlError::NoDaemon(_))
    ));
    stop_other.cancel();
    task_other.await.unwrap();
    assert!(matches!(
        find(&dirs, None).await,
        Err(ControlError::NoDaemons)
    ));
    assert_eq!(std::fs::read_dir(&sockets).unwrap().count(), 0);
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced_and_a_waiting_one_ends() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = Dirs::below(temp.path());
    let state = dirs.state_of(DirKind::Server, temp.path()).unwrap();
    // A daemon that was killed leaves both files behind.
    std::mem::forget(ControlSocket::bind(&dirs, &state).unwrap());
    let (stop, task) = start(&dirs, &state);
    let (near, far) = (dirs.clone(), temp.path().to_owned());
    let waiting =
        tokio::spawn(async move { ask(&near, DirKind::Server, &far, &json!("wait")).await });
    assert_eq!(ask_path(&dirs, temp.path()).await, json!({"asked": 1}));
    stop.cancel();
    task.await.unwrap();
    assert!(matches!(
        waiting.await.unwrap(),
        Err(ControlError::Closed(_) | ControlError::NoDaemon(_))
    ));
}

async fn ask_path(dirs: &Dirs, path: &Path) -> Value {
    ask(dirs, DirKind::Server, path, &json!(1)).await.unwrap()
}

#[tokio::test]
async fn wrong_and_endless_questions_do_no_harm() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = Dirs::below(temp.path());
    let state = dirs.state_of(DirKind::Server, temp.path()).unwrap();
    let (stop, task) = start(&dirs, &state);
    let daemon = find(&dirs, None).await.unwrap().remove(0);
    let mut stream = daemon.connect().await.unwrap();
    stream.write_all(b"{oh\n2\n").await.unwrap();
    let mut answer = vec![0; 4096];
    let mut length = 0;
    while !answer[..length].ends_with(b"{\"asked\":2}\n") {
        let read = stream.read(&mut answer[length..]).await.unwrap();
        assert_ne!(read, 0);
        length += read;
    }
    assert!(answer.starts_with(b"{\"error\":"));
    let endless = vec![b'1'; usize::try_from(MAX_QUESTION).unwrap() + 9];
    // The daemon may hang up before all of it is taken.
    drop(stream.write_all(&endless).await);
    assert!(matches!(stream.read(&mut answer).await, Ok(0) | Err(_)));
    // Askers that wait for ever and leave do not use the places up.
    for _ in 0..64 {
        let mut stream = daemon.connect().await.unwrap();
        stream.write_all(b"\"wait\"\n").await.unwrap();
    }
    assert_eq!(ask_path(&dirs, temp.path()).await, json!({"asked": 1}));
    stop.cancel();
    task.await.unwrap();
}
