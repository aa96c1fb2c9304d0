use super::{Devices, DevicesError, Enrolling, NotServed};
use crate::host::clock::{unix_seconds, wall};
use crate::host::pending::Pending;
use crate::host::rights::{Access, Rights};
use crate::wire::InvitedShare;

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

fn invited(devices: &Devices, secret: &str, access: Access) {
    let ends = unix_seconds(wall()) + 3600;
    let share = InvitedShare::Named("photos".to_owned());
    let pending = Pending::new(secret, None, &share, access, ends);
    devices.invite(pending, wall()).unwrap();
}

#[test]
fn an_invite_that_is_shown_again_brings_nothing_back() {
    let temp = tempfile::tempdir().unwrap();
    let devices = Devices::open(temp.path()).unwrap();
    invited(&devices, "first", Access::Write);
    let redeem = |secret: &str| devices.redeem(secret, new("a", "a"), |_| false);
    assert_eq!(redeem("first").unwrap().access, Access::Write);
    // The answer may have been lost.
    assert_eq!(redeem("first").unwrap().access, Access::Write);
    invited(&devices, "second", Access::Read);
    assert_eq!(redeem("second").unwrap().access, Access::Read);
    assert_eq!(redeem("first").unwrap().access, Access::Read);
    let rights = devices.find("a").unwrap().rights;
    assert!(!rights.allow(Some("photos"), Access::Write));
    devices.revoke("a").unwrap();
    for secret in ["first", "second"] {
        assert!(matches!(redeem(secret), Err(DevicesError::Revoked)));
        let other = devices.redeem(secret, new("b", "a"), |_| false);
        assert!(matches!(other, Err(DevicesError::Unredeemed(_))));
    }
}

#[test]
fn rights_that_change_hold_for_connections_that_are_open() {
    let temp = tempfile::tempdir().unwrap();
    let devices = Devices::open(temp.path()).unwrap();
    let photos = |access| Rights::of(Some("photos"), access);
    devices.allow(new("a", "a"), photos(Access::Write)).unwrap();
    let open = devices.find("a").unwrap().rights;
    assert!(open.allow(Some("photos"), Access::Write));
    devices.allow(new("a", "a"), photos(Access::Read)).unwrap();
    assert!(open.allow(Some("photos"), Access::Read));
    assert!(!open.allow(Some("photos"), Access::Write));
    devices.allow(new("a", "a"), photos(Access::Write)).unwrap();
    assert!(open.allow(Some("photos"), Access::Write));
}

#[test]
fn no_name_stands_for_the_id_of_another() {
    let temp = tempfile::tempdir().unwrap();
    let devices = Devices::open(temp.path()).unwrap();
    let id = "0".repeat(64);
    let posing = devices.enrol(new("a", &id)).unwrap();
    assert_eq!(posing.name, id);
    devices.enrol(new(&id, "laptop")).unwrap();
    assert_eq!(devices.revoke(&id).unwrap().name, "laptop");
    assert!(devices.find("a").is_ok());
}
