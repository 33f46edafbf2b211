//! TLS to the server that the URL names.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::config::{HttpConfig, Trust};
use super::error::{HttpError, Peer, UrlError};
use crate::host::Host;
use crate::network::BoxStream;

pub(super) fn connector(config: &HttpConfig) -> Result<TlsConnector, HttpError> {
    let mut tls = match &config.trust {
        Trust::Mozilla { and } => trusting(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(), and)?,
        Trust::Only(roots) => trusting(RootCertStore::empty(), roots)?,
        Trust::Custom(tls) => ClientConfig::clone(tls),
    };
    // A ticket of one connection, shown in another, tells the server that both are of the same client: over two
    // routes, or for two isolation keys. Connections that may be seen to belong together are kept instead.
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    let offered: &[&[u8]] = if config.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    tls.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(tls).into())
}

fn trusting(
    mut roots: RootCertStore,
    further: &[rustls::pki_types::CertificateDer<'static>],
) -> Result<ClientConfig, HttpError> {
    for root in further {
        roots.add(root.clone()).map_err(HttpError::TlsConfig)?;
    }
    // Named, because a process may have another as its default, or two and so none.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(HttpError::TlsConfig)?.with_root_certificates(roots).with_no_client_auth())
}

/// Who a server at `host` must prove to be. Not every name that a network may know can be in a certificate.
pub(super) fn server_name(host: &Host) -> Result<ServerName<'static>, UrlError> {
    match host {
        Host::Name(name) => name.as_str().to_owned().try_into().map_err(|_| UrlError::Certificate),
        Host::Address(address) => Ok(IpAddr::clone(address).into()),
    }
}

/// TLS over `stream` with `peer`, which proves to be `name`.
pub(super) async fn handshake(
    connector: &TlsConnector,
    name: ServerName<'static>,
    peer: &Peer,
    stream: BoxStream,
) -> Result<TlsStream<BoxStream>, HttpError> {
    let done = connector.connect(name, stream).await;
    done.map_err(|source| HttpError::Tls { peer: peer.clone(), source })
}

/// Whether both sides agreed on HTTP/2.
pub(super) fn is_http2(stream: &TlsStream<BoxStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}
