//! Authorities and certificates from files.

use std::path::Path;

use frame_net::http::{HttpClient, HttpConfig, HttpError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::origin::{Origin, ok};
use crate::servers::web::{Identity, Web};
use crate::servers::{file, folder};
use crate::support::soon;
use crate::tls::{Authority, get, overlay};
use crate::{causes, world_with};

fn config(settings: Value) -> HttpConfig {
    serde_json::from_value(settings).unwrap()
}

fn identity(folder: &Path, name: &str, (certificate, key): (String, String)) -> Identity {
    Identity {
        certificate: file(folder, &format!("{name}.pem"), &certificate),
        key: file(folder, &format!("{name}.key"), &key),
    }
}

#[tokio::test]
async fn an_authority_of_a_file_is_trusted_and_only_with_it() {
    let (authority, folder) = (Authority::new(), folder());
    let file = file(folder.path(), "ca.pem", &authority.root_pem());
    let origin = Origin::tls(authority.server("shop.internal", &[]), |_| ok("hello")).await;
    for roots in ["bundled", "system", "only"] {
        let settings = config(json!({ "ca_files": [file], "roots": roots }));
        // A machine may have no certificates.
        let Ok(_) = HttpClient::new(settings.clone()) else { continue };
        let world = overlay(origin.address, settings).await;
        assert_eq!(get(&world, "https://shop.internal/").await.unwrap(), "hello", "{roots}");
    }
    for settings in [json!({}), json!({ "roots": "only" })] {
        let world = overlay(origin.address, config(settings)).await;
        let error = get(&world, "https://shop.internal/").await.unwrap_err();
        assert!(matches!(error, HttpError::UntrustedIssuer { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_rule_is_about_its_hosts_and_its_networks() {
    let (authority, folder) = (Authority::new(), folder());
    let file = file(folder.path(), "ca.pem", &authority.root_pem());
    for (name, url, rule, is_trusted) in [
        ("a.corp.internal", "https://a.corp.internal/", json!({ "hosts": ["*.corp.internal"] }), true),
        ("corp.internal", "https://corp.internal/", json!({ "hosts": ["*.corp.internal"] }), false),
        ("10.1.2.3", "https://10.1.2.3/", json!({ "hosts": ["10.0.0.0/8"] }), true),
        ("11.1.2.3", "https://11.1.2.3/", json!({ "hosts": ["10.0.0.0/8"] }), false),
        ("shop.internal", "https://shop.internal/", json!({ "networks": ["app:proxy"] }), true),
        ("shop.internal", "https://shop.internal/", json!({ "networks": ["app:other"] }), false),
        (
            "shop.internal",
            "https://shop.internal/",
            json!({ "networks": ["app:proxy"], "hosts": ["bank.internal"] }),
            false,
        ),
    ] {
        let origin = Origin::tls(authority.server(name, &[]), |_| ok("hello")).await;
        let mut given = rule.clone();
        given["ca_files"] = json!([file]);
        let world = overlay(origin.address, config(json!({ "tls": [given] }))).await;
        let got = get(&world, url).await;
        assert_eq!(got.is_ok(), is_trusted, "{name} {rule}: {got:?}");
    }
}

#[tokio::test]
async fn the_first_rule_about_a_server_counts_and_may_trust_fewer() {
    let (authority, folder) = (Authority::new(), folder());
    let file = file(folder.path(), "ca.pem", &authority.root_pem());
    let origin = Origin::tls(authority.server("shop.internal", &[]), |_| ok("hello")).await;
    let settings = json!({
        "ca_files": [file],
        "tls": [{ "hosts": ["shop.internal"], "ca_files": [], "roots": "only" }, { "hosts": ["*"] }],
    });
    let world = overlay(origin.address, config(settings)).await;
    let error = get(&world, "https://shop.internal/").await.unwrap_err();
    assert!(matches!(error, HttpError::UntrustedIssuer { .. }), "{error:?}");
}

#[tokio::test]
async fn nginx_gets_the_client_certificate_of_a_rule_and_nobody_else_does() {
    let (authority, folder) = (Authority::new(), folder());
    let ca = file(folder.path(), "ca.pem", &authority.root_pem());
    let server = identity(folder.path(), "server", authority.pem("127.0.0.1"));
    let client = identity(folder.path(), "client", authority.pem("client.internal"));
    let settings = format!(
        "ssl_client_certificate {}; ssl_verify_client optional; location / {{ return 200 $ssl_client_verify; }}",
        ca.display()
    );
    let Some(nginx) = Web::nginx(Some(&server), &settings).await else { return };
    let certificate = json!({ "certificate": client.certificate, "key": client.key });
    let url = format!("https://{}/", nginx.address);
    for (settings, verified) in [
        (json!({ "ca_files": [ca] }), "NONE"),
        (json!({ "ca_files": [ca], "client_certificate": certificate }), "SUCCESS"),
        (
            json!({ "ca_files": [ca], "tls": [{ "hosts": ["127.0.0.1"], "client_certificate": certificate }] }),
            "SUCCESS",
        ),
        (
            json!({ "ca_files": [ca], "tls": [{ "hosts": ["other.internal"], "client_certificate": certificate }] }),
            "NONE",
        ),
    ] {
        let world = world_with(&json!({}), config(settings.clone()));
        assert_eq!(world.text(&url).await, verified, "{settings}");
    }
}

#[tokio::test]
async fn other_certificates_count_at_once_and_leave_old_connections_alone() {
    let (authority, other, folder) = (Authority::new(), Authority::new(), folder());
    let ca = file(folder.path(), "ca.pem", &authority.root_pem());
    let settings = || config(json!({ "ca_files": [ca], "roots": "only" }));
    let mut origin = Origin::tls(authority.server("shop.internal", &[]), |_| ok("hello")).await;
    let world = overlay(origin.address, settings()).await;
    for _ in 0..2 {
        assert_eq!(get(&world, "https://shop.internal/").await.unwrap(), "hello");
        assert_eq!(origin.request().await.connection, 0);
    }
    let same = HttpClient::new(settings()).unwrap();
    assert!(world.client.has_same_certificates(&same));

    file(folder.path(), "ca.pem", &other.root_pem());
    let new = HttpClient::new(settings()).unwrap();
    assert!(!world.client.has_same_certificates(&new));
    // Another handle, as modules have one.
    let old = world.client.clone().switch_to(&new);
    let error = get(&world, "https://shop.internal/").await.unwrap_err();
    assert!(matches!(error, HttpError::UntrustedIssuer { .. }), "{error:?}");
    drop(old);
    assert_eq!(origin.closed().await, 0);
}

#[tokio::test]
async fn a_self_signed_certificate_as_a_root_works_or_says_what_to_do() {
    for is_authority in [false, true] {
        let (folder, key) = (folder(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.is_ca =
            if is_authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        let certificate = params.self_signed(&key).unwrap().pem();
        let server = identity(folder.path(), "server", (certificate, key.serialize_pem()));
        let Some(nginx) = Web::nginx(Some(&server), "location / { return 200 hello; }").await else { return };
        let world = world_with(&json!({}), config(json!({ "ca_files": [server.certificate] })));
        let got = world.get(&format!("https://{}/", nginx.address)).await;
        if is_authority {
            let error = got.unwrap_err();
            assert!(matches!(error, HttpError::AuthorityAsServer { .. }), "{error:?}");
            assert!(error.to_string().contains("`basicConstraints = CA:FALSE`"), "{error}");
            assert!(!error.is_retryable());
        } else {
            assert_eq!(soon(got.unwrap().text()).await.unwrap(), "hello");
        }
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_setting_and_not_shown() {
    let (authority, folder) = (Authority::new(), folder());
    let (certificate, key) = authority.pem("client.internal");
    let (_, other_key) = authority.pem("client.internal");
    let secret = "31337";
    let files = |name: &str, text: &str| file(folder.path(), name, text).display().to_string();
    let good = files("good.pem", &certificate);
    let client = |certificate: &str, key: &str| json!({ "client_certificate": { "certificate": certificate, "key": key } });
    let broken =
        files("broken.key", &format!("-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n"));
    let cases = [
        ("ca_files[0]", json!({ "ca_files": ["/not/there.pem"] }), "No such file"),
        ("ca_files[0]", json!({ "ca_files": [files("empty.pem", secret)] }), "no certificate in it"),
        ("ca_files[0]", json!({ "ca_files": [files("key.pem", &key)] }), "no certificate in it"),
        ("client_certificate.key", client(&good, "/not/there.key"), "No such file"),
        ("client_certificate.key", client(&good, &good), "no private key in it"),
        ("client_certificate.key", client(&good, &broken), ""),
        (
            "client_certificate.key",
            client(&good, &files("other.key", &other_key)),
            "key does not belong to the certificate",
        ),
        (
            "tls[0].ca_files[0]",
            json!({ "tls": [{ "hosts": ["*"], "ca_files": ["/not/there.pem"] }] }),
            "No such file",
        ),
        (
            "tls[0].client_certificate.certificate",
            json!({ "tls": [{ "hosts": ["*"], "client_certificate": { "certificate": "/not/there.pem", "key": "/k" } }] }),
            "No such file",
        ),
    ];
    for (setting, settings, words) in cases {
        let error = HttpClient::new(config(settings.clone())).unwrap_err();
        let about = error.setting().map(|setting| setting.to_string());
        assert_eq!(about.as_deref(), Some(setting), "{settings}: {error:?}");
        let shown = format!("{} {error:?}", causes(&error));
        assert!(shown.contains(words), "{settings}: {shown}");
        assert!(!shown.contains(secret) && !shown.contains(&key[40..60]), "{settings}: {shown}");
    }
    let debug = format!("{:?}", config(client(&good, &files("right.key", &key))));
    assert!(debug.contains("right.key") && !debug.contains(&key[40..60]), "{debug}");
}

#[test]
fn paths_begin_at_the_directory_that_is_given() {
    let settings = config(json!({
        "ca_files": ["a.pem", "/b.pem"],
        "client_certificate": { "certificate": "c.pem", "key": "d.key" },
        "tls": [{ "hosts": ["*"], "ca_files": ["e.pem"], "client_certificate": { "certificate": "f", "key": "g" } }],
    }))
    .in_directory(Path::new("/app"));
    assert_eq!(settings.ca_files, [Path::new("/app/a.pem"), Path::new("/b.pem")]);
    let shown = format!("{:?} {:?}", settings.client_certificate, settings.tls);
    assert!(
        ["/app/c.pem", "/app/d.key", "/app/e.pem", "/app/f", "/app/g"]
            .iter()
            .all(|path| shown.contains(path)),
        "{shown}"
    );
}
