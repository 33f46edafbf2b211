//! TLS to the server that the URL names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, InconsistentKeys, OtherError, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::config::{ClientCertificate, HttpConfig, Roots, TlsRule};
use super::error::{HttpError, Peer};
use crate::endpoint::Host;
use crate::network::{BoxStream, Route};
use crate::settings::SettingPath;
use crate::tls::{self, Trust};

/// The settings of TLS for each server.
pub(crate) struct TlsConnectors {
    default: TlsConnector,
    rules: Vec<(TlsRule, TlsConnector)>,
    /// A hash of all that was read of files and of the system: which says whether it has changed.
    pub(crate) fingerprint: [u8; 32],
}

impl TlsConnectors {
    /// Reads the files that the configuration names.
    pub(crate) fn new(config: &HttpConfig) -> Result<Self, HttpError> {
        let mut read = Sha256::new();
        let certificate = config.client_certificate.as_ref();
        let at = SettingPath::new();
        let default = connector(config, config.roots, &config.ca_files, certificate, &at, &mut read)?;
        let connectors = config.tls.iter().enumerate().map(|(index, rule)| {
            let (roots, ca_files) = (rule.roots.unwrap_or(config.roots), rule.ca_files.as_ref());
            let ca_files = ca_files.unwrap_or(&config.ca_files);
            let certificate = rule.client_certificate.as_ref();
            let at = SettingPath::from("tls").index(index);
            let connector = connector(config, roots, ca_files, certificate, &at, &mut read)?;
            Ok((rule.clone(), connector))
        });
        let rules = connectors.collect::<Result<_, HttpError>>()?;
        Ok(Self { default, rules, fingerprint: read.finalize().into() })
    }

    /// That of the first rule that is about the server.
    pub(crate) fn of(&self, host: &Host, route: &Route) -> &TlsConnector {
        let rule = self.rules.iter().find(|(rule, _)| rule.is_about(host, route));
        rule.map_or(&self.default, |(_, connector)| connector)
    }
}

/// Connects as these settings say, which are at `at`.
fn connector(
    config: &HttpConfig,
    roots: Roots,
    ca_files: &[PathBuf],
    client: Option<&ClientCertificate>,
    at: &SettingPath,
    read: &mut Sha256,
) -> Result<TlsConnector, HttpError> {
    let tls = match &config.trust {
        Trust::Custom(tls) => ClientConfig::clone(tls),
        Trust::Mozilla { and } => trusting(store(roots, at, read)?, and, ca_files, client, at, read)?,
        Trust::Only(only) => trusting(RootCertStore::empty(), only, ca_files, client, at, read)?,
    };
    let offered: &[&[u8]] = if config.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    Ok(tls::finished(tls, offered))
}

fn store(roots: Roots, at: &SettingPath, read: &mut Sha256) -> Result<RootCertStore, HttpError> {
    match roots {
        Roots::Bundled => Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()),
        Roots::Only => Ok(RootCertStore::empty()),
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            for certificate in &found.certs {
                read.update(certificate);
            }
            let mut store = RootCertStore::empty();
            // A system has some that rustls cannot read. They count for nothing.
            let (added, _) = store.add_parsable_certificates(found.certs);
            if added == 0 {
                let why = found.errors.into_iter().next().map(io::Error::other);
                let source = why.unwrap_or_else(|| io::Error::other("the system has no certificates"));
                return Err(HttpError::SystemRoots {
                    setting: at.clone().key("roots"),
                    source: source.into(),
                });
            }
            Ok(store)
        }
    }
}

fn trusting(
    mut roots: RootCertStore,
    further: &[CertificateDer<'static>],
    ca_files: &[PathBuf],
    client: Option<&ClientCertificate>,
    at: &SettingPath,
    read: &mut Sha256,
) -> Result<ClientConfig, HttpError> {
    for root in further {
        roots.add(root.clone()).map_err(HttpError::TlsConfig)?;
    }
    let wrong = |setting, path: &Path, source| HttpError::File {
        setting,
        path: path.to_owned(),
        source: Arc::new(source),
    };
    for (index, path) in ca_files.iter().enumerate() {
        let wrong = |source| wrong(at.clone().key("ca_files").index(index), path, source);
        for certificate in certificates(path, read).map_err(wrong)? {
            roots.add(certificate).map_err(|error| wrong(io::Error::other(error)))?;
        }
    }
    let builder = tls::builder().map_err(HttpError::TlsConfig)?.with_root_certificates(roots);
    let Some(ClientCertificate { certificate, key }) = client else {
        return Ok(builder.with_no_client_auth());
    };
    let at = at.clone().key("client_certificate");
    let wrong_key = |source| wrong(at.clone().key("key"), key, source);
    let chain = certificates(certificate, read)
        .map_err(|source| wrong(at.clone().key("certificate"), certificate, source))?;
    let private = private_key(key, read).map_err(wrong_key)?;
    // Both are right by themselves by now, or rustls says what it cannot use of the key.
    builder.with_client_auth_cert(chain, private).map_err(|error| {
        wrong_key(match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                io::Error::other("the key does not belong to the certificate")
            }
            error => io::Error::other(error),
        })
    })
}

fn certificates(path: &Path, read: &mut Sha256) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = std::fs::read(path)?;
    read.update(&text);
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(io::Error::other("there is no certificate in it; it must be in PEM")),
        Err(_) => Err(io::Error::other("it is not valid PEM")),
    }
}

/// No error shows anything of the key, and the text it is read from is overwritten.
fn private_key(path: &Path, read: &mut Sha256) -> io::Result<PrivateKeyDer<'static>> {
    let text = zeroize::Zeroizing::new(std::fs::read(path)?);
    read.update(&*text);
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| io::Error::other("there is no private key in it; it must be in PEM and not encrypted"))
}

/// The same connector, which offers HTTP/1.1 alone.
#[cfg(feature = "websocket")]
pub(crate) fn without_http2(connector: &TlsConnector) -> TlsConnector {
    let mut tls = ClientConfig::clone(connector.config());
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(tls).into()
}

/// TLS over `stream` with `peer`, which proves to be `name`.
pub(crate) async fn handshake(
    connector: &TlsConnector,
    name: ServerName<'static>,
    peer: &Peer,
    stream: BoxStream,
) -> Result<TlsStream<BoxStream>, HttpError> {
    let done = connector.connect(name, stream).await;
    done.map_err(|source| {
        let peer = peer.clone();
        match tls::certificate_error(&source) {
            // A signature of an authority that has the name of a trusted one, and not its key, is bad.
            Some(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                HttpError::UntrustedIssuer { peer, error: source.into() }
            }
            Some(CertificateError::Other(other)) if shows_authority(other) => {
                HttpError::AuthorityAsServer { peer, error: source.into() }
            }
            _ => HttpError::Tls { peer, source: source.into() },
        }
    })
}

/// Whether the server shows the certificate of an authority as its own, as many self-signed ones are.
fn shows_authority(error: &OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Whether both sides agreed on HTTP/2.
pub(crate) fn is_http2(stream: &TlsStream<BoxStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}
