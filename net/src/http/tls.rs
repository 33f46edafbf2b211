//! TLS to the server that the URL names.

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::config::HttpConfig;
use super::error::{HttpError, Peer};
use crate::network::BoxStream;
use crate::tls;

pub(super) fn connector(config: &HttpConfig) -> Result<TlsConnector, HttpError> {
    let offered: &[&[u8]] = if config.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    tls::connector(&config.trust, offered).map_err(HttpError::TlsConfig)
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
