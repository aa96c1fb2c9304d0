use super::{CertSetError, Wanted, make};
use crate::host::own::{Own, PemFiles};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn wanted(directory: &Path) -> Wanted {
    Wanted {
        directory: directory.to_owned(),
        hosts: Vec::new(),
        clients: vec!["client".to_owned()],
        lifetime: Duration::from_secs(3600),
        renew: false,
    }
}

fn texts(directory: &Path) -> BTreeMap<PathBuf, String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

fn set(directory: &Path, name: &str) -> PemFiles {
    PemFiles {
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
        ca: directory.join("ca.pem"),
    }
}

#[test]
fn a_set_is_complete_and_what_is_there_stays() {
    let temp = tempfile::tempdir().unwrap();
    let directory = temp.path().join("certs");
    assert_eq!(make(&wanted(&directory)).unwrap().len(), 6);
    let first = texts(&directory);
    for path in first.keys() {
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        let is_key = path.extension().is_some_and(|kind| kind == "key");
        assert_eq!(mode & 0o077 == 0, is_key, "{}", path.display());
    }
    assert_eq!(first[&directory.join(".gitignore")], "*.key\n");
    for name in ["server", "client"] {
        Own::load(&set(&directory, name)).unwrap();
    }
    assert!(make(&wanted(&directory)).unwrap().is_empty());
    assert_eq!(texts(&directory), first);
    // One more client, of the same authority.
    let mut more = wanted(&directory);
    more.clients.push("laptop".to_owned());
    assert_eq!(make(&more).unwrap().len(), 2);
    // New certificates for the keys that are there.
    more.renew = true;
    assert_eq!(make(&more).unwrap().len(), 3);
    let renewed = texts(&directory);
    for (path, text) in &first {
        let name = path.file_name().unwrap().to_str().unwrap();
        let changes = ["server.pem", "client.pem"].contains(&name);
        assert_eq!(*text != renewed[path], changes, "{name}");
    }
    Own::load(&set(&directory, "client")).unwrap();
}

#[test]
fn names_are_added_when_certificates_are_made_anew_and_stay() {
    let temp = tempfile::tempdir().unwrap();
    let mut wanted = wanted(temp.path());
    make(&wanted).unwrap();
    wanted.hosts = vec!["backup.example".to_owned(), "2001:db8::7".to_owned()];
    assert!(matches!(make(&wanted), Err(CertSetError::There(_))));
    wanted.renew = true;
    make(&wanted).unwrap();
    wanted.hosts.clear();
    make(&wanted).unwrap();
    let text = std::fs::read_to_string(temp.path().join("server.pem")).unwrap();
    let names = super::names_of(&crate::host::pem::certificate(&text).unwrap());
    for name in [
        "localhost",
        "127.0.0.1",
        "::1",
        "backup.example",
        "2001:db8::7",
    ] {
        let count = names.iter().filter(|it| *it == name).count();
        assert_eq!(count, 1, "{name}: {names:?}");
    }
}

#[test]
fn what_cannot_be_used_is_named_and_nothing_is_overwritten() {
    let temp = tempfile::tempdir().unwrap();
    for name in ["", "ca", "server", "../x", ".x", "a b", "-x"] {
        let mut wanted = wanted(temp.path());
        wanted.clients = vec![name.to_owned()];
        assert!(
            matches!(make(&wanted), Err(CertSetError::Client(_))),
            "{name}"
        );
    }
    for host in ["", "a b", "x/y", "*"] {
        let mut wanted = wanted(temp.path());
        wanted.hosts = vec![host.to_owned()];
        assert!(
            matches!(make(&wanted), Err(CertSetError::Host(_))),
            "{host}"
        );
    }
    let wanted = wanted(temp.path());
    make(&wanted).unwrap();
    let key = temp.path().join("ca.key");
    let saved = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert!(matches!(make(&wanted), Err(CertSetError::Half(_))));
    std::fs::copy(temp.path().join("client.key"), &key).unwrap();
    assert!(matches!(make(&wanted), Err(CertSetError::NoAuthority(_))));
    std::fs::write(&key, saved).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(make(&wanted), Err(CertSetError::Private(_))));
}
