use super::{DEVICE_VALIDITY, DeviceKey, Identity, PkiError, SERVER_VALIDITY};
use crate::host::certificate::{key_fingerprint, parse, remaining, server_id, verify_server};
use crate::host::{clock, pem};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[test]
fn an_identity_stays_and_its_files_are_private() {
    let temp = tempfile::tempdir().unwrap();
    let now = clock::wall();
    let first = Identity::open(temp.path(), now).unwrap();
    let again = Identity::open(temp.path(), now).unwrap();
    assert_eq!(first.server_id(), again.server_id());
    assert_eq!(first.certificate(), again.certificate());
    assert_eq!(server_id(first.certificate()).unwrap(), first.server_id());
    assert_eq!(
        pem::certificate(first.authority_pem()).unwrap(),
        *first.authority()
    );
    verify_server(first.certificate(), first.authority(), now).unwrap();
    for entry in std::fs::read_dir(temp.path()).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn the_server_certificate_is_renewed_before_it_ends_and_the_authority_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let now = clock::wall();
    let first = Identity::open(temp.path(), now).unwrap();
    let early = now + SERVER_VALIDITY * 2 / 3 - Duration::from_secs(60);
    let same = Identity::open(temp.path(), early).unwrap();
    assert_eq!(first.certificate(), same.certificate());
    let late = now + SERVER_VALIDITY * 2 / 3 + Duration::from_secs(60);
    let renewed = Identity::open(temp.path(), late).unwrap();
    assert_ne!(first.certificate(), renewed.certificate());
    assert_eq!(first.authority(), renewed.authority());
}

#[test]
fn a_damaged_authority_is_never_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let now = clock::wall();
    Identity::open(temp.path(), now).unwrap();
    crate::host::private::write(&temp.path().join("authority.pem"), b"oh").unwrap();
    assert!(matches!(
        Identity::open(temp.path(), now),
        Err(PkiError::NoAuthority(_))
    ));
    // A certificate of another authority beside a good one is only remade.
    std::fs::remove_file(temp.path().join("authority.pem")).unwrap();
    let fresh = Identity::open(temp.path(), now).unwrap();
    verify_server(fresh.certificate(), fresh.authority(), now).unwrap();
}

#[test]
fn a_request_gets_nothing_but_its_key_signed() {
    let temp = tempfile::tempdir().unwrap();
    let now = clock::wall();
    let identity = Identity::open(temp.path(), now).unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut greedy = CertificateParams::new(vec!["server.example".to_owned()]).unwrap();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let request = greedy.serialize_request(&key).unwrap().pem().unwrap();
    let signed = identity.sign_device(&request, "laptop", now).unwrap();
    let certificate = pem::certificate(&signed.pem).unwrap();
    let parsed = parse(&certificate).unwrap();
    assert!(!parsed.is_ca());
    assert!(
        !parsed
            .key_usage()
            .unwrap()
            .is_some_and(|usage| usage.value.key_cert_sign())
    );
    assert!(!signed.pem.is_empty() && parsed.subject().to_string() == "CN=laptop");
    assert_eq!(key_fingerprint(&certificate).unwrap(), signed.device_id);
    assert_eq!(server_id(&certificate), None);
    assert!(verify_server(&certificate, identity.authority(), now).is_err());
    let left = remaining(&certificate, now).unwrap();
    assert!(left <= DEVICE_VALIDITY && left > DEVICE_VALIDITY - Duration::from_secs(60));
    assert_eq!(
        remaining(&certificate, now + DEVICE_VALIDITY + Duration::from_secs(2)).unwrap(),
        Duration::ZERO
    );
    assert_eq!(
        remaining(&certificate, now - Duration::from_secs(900)).unwrap(),
        Duration::ZERO
    );
}

#[test]
fn other_keys_and_damaged_requests_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let now = clock::wall();
    let identity = Identity::open(temp.path(), now).unwrap();
    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let request = CertificateParams::default()
        .serialize_request(&other)
        .unwrap()
        .pem()
        .unwrap();
    let good = DeviceKey::generate().unwrap().request().unwrap();
    let mut bent = data_encoding::BASE64
        .decode(
            good.lines()
                .filter(|line| !line.starts_with('-'))
                .collect::<String>()
                .as_bytes(),
        )
        .unwrap();
    *bent.last_mut().unwrap() ^= 1;
    let bent = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        data_encoding::BASE64.encode(&bent)
    );
    for request in [request, bent, String::new(), "x".repeat(10_000)] {
        assert!(matches!(
            identity.sign_device(&request, "x", now),
            Err(PkiError::Request)
        ));
    }
}

#[test]
fn serials_never_repeat_even_for_one_key() {
    let temp = tempfile::tempdir().unwrap();
    let now = clock::wall();
    let identity = Identity::open(temp.path(), now).unwrap();
    let key = DeviceKey::generate().unwrap();
    let request = key.request().unwrap();
    let serials: HashSet<Vec<u8>> = (0..64)
        .map(|_| {
            let signed = identity.sign_device(&request, "x", now).unwrap();
            assert_eq!(signed.device_id, key.device_id());
            let certificate = pem::certificate(&signed.pem).unwrap();
            let raw = parse(&certificate).unwrap().raw_serial().to_vec();
            assert_eq!(raw.len(), 16);
            raw
        })
        .collect();
    assert_eq!(serials.len(), 64);
    let text = key.to_pem();
    assert_eq!(
        DeviceKey::from_pem(&text).unwrap().device_id(),
        key.device_id()
    );
}
