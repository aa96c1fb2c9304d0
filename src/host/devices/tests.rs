use super::{Devices, DevicesError, Enrolling, NotServed};
use crate::host::clock::wall;

fn new<'a>(id: &'a str, name: &'a str) -> Enrolling<'a> {
    Enrolling {
        id,
        name,
        now: wall(),
        until: None,
    }
}

#[test]
fn a_list_outlives_the_process_and_names_stay_apart() {
    let temp = tempfile::tempdir().unwrap();
    let devices = Devices::open(temp.path()).unwrap();
    let enrol = |id: &str| devices.enrol(new(id, "laptop")).unwrap();
    assert_eq!(
        (enrol("a").name, enrol("b").name),
        ("laptop".into(), "laptop-2".into())
    );
    assert_eq!(enrol("a").name, "laptop");
    let again = Devices::open(temp.path()).unwrap();
    assert_eq!(again.list(), devices.list());
    assert_eq!(again.find("c").unwrap_err(), NotServed::Unknown);
}

#[test]
fn revoking_ends_connections_and_closes_the_local_invite() {
    let temp = tempfile::tempdir().unwrap();
    let devices = Devices::open(temp.path()).unwrap();
    let enrol = |id: &str| devices.enrol(new(id, id));
    enrol("a").unwrap();
    let live = devices.find("a").unwrap().revoked;
    devices.revoke("a").unwrap();
    assert!(live.is_cancelled());
    let devices = Devices::open(temp.path()).unwrap();
    assert_eq!(devices.find("a").unwrap_err(), NotServed::Revoked);
    let enrol = |id: &str| devices.enrol(new(id, id));
    assert!(matches!(enrol("b"), Err(DevicesError::LocalClosed)));
    devices.open_local().unwrap();
    assert!(matches!(enrol("a"), Err(DevicesError::Revoked)));
    assert!(enrol("b").is_ok());
    assert!(matches!(devices.revoke("z"), Err(DevicesError::Unknown(_))));
}
