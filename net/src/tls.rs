//! What TLS has in common, to servers of HTTP and to proxies.

use std::net::IpAddr;
use std::sync::Arc;
use std::{fmt, io};

#[cfg(feature = "http-connect")]
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, WantsVerifier};
use tokio_rustls::TlsConnector;

use crate::endpoint::Host;

/// Whose certificates count, as code says. What a configuration says beside it counts, too.
#[derive(Clone)]
#[non_exhaustive]
pub enum Trust {
    /// Mozilla's roots, as they were when this program was built, and these.
    Mozilla {
        /// Further roots.
        and: Vec<CertificateDer<'static>>,
    },
    /// These roots and no others.
    Only(Vec<CertificateDer<'static>>),
    /// What a configuration of rustls says, client certificates included. Its ALPN protocols and its resumption of
    /// sessions are not used: the first follow from what is spoken inside, and a session that is resumed would show that
    /// two connections belong together.
    Custom(Arc<ClientConfig>),
}

impl Default for Trust {
    fn default() -> Self {
        Self::Mozilla { and: Vec::new() }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mozilla { and } => write!(f, "Mozilla and {} others", and.len()),
            Self::Only(roots) => write!(f, "Only {} roots", roots.len()),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

/// Connects to who `trust` proves, and offers these protocols.
#[cfg(feature = "http-connect")]
pub(crate) fn connector(trust: &Trust, protocols: &[&[u8]]) -> Result<TlsConnector, rustls::Error> {
    let trusting = |mut roots: RootCertStore, further: &[CertificateDer<'static>]| {
        for root in further {
            roots.add(root.clone())?;
        }
        Ok::<_, rustls::Error>(builder()?.with_root_certificates(roots).with_no_client_auth())
    };
    let tls = match trust {
        Trust::Mozilla { and } => trusting(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(), and)?,
        Trust::Only(roots) => trusting(RootCertStore::empty(), roots)?,
        Trust::Custom(tls) => ClientConfig::clone(tls),
    };
    Ok(finished(tls, protocols))
}

/// What a configuration begins with.
pub(crate) fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    // Named, because a process may have another as its default, or two and so none.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

/// A connector that offers these protocols.
pub(crate) fn finished(mut tls: ClientConfig, protocols: &[&[u8]]) -> TlsConnector {
    // A ticket of one connection, shown in another, tells the server that both are of the same client: over two
    // routes, or for two isolation keys. Connections that may be seen to belong together are kept instead.
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    tls.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(tls).into()
}

/// Who a server at `host` must prove to be. Not every name that a network may know can be in a certificate.
pub(crate) fn server_name(host: &Host) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        Host::Name(name) => name.as_str().to_owned().try_into(),
        Host::Address(address) => Ok(IpAddr::clone(address).into()),
    }
}

/// Whether the error is about what was said, and not about the connection that it was said over.
pub(crate) fn is_of_rustls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
}

/// What is wrong with the certificate of the server, if that is what the error is about.
pub(crate) fn certificate_error(error: &io::Error) -> Option<&CertificateError> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(error) => Some(error),
        _ => None,
    }
}

/// An error of TLS with a proxy, in words for those who write settings.
#[cfg(feature = "http-connect")]
pub(crate) fn in_words(error: &io::Error) -> String {
    match certificate_error(error) {
        // The second where an authority has the name of a trusted one, and not its key.
        Some(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the issuer of the certificate is not trusted; add it to `ca_file`".to_owned()
        }
        _ => error.to_string(),
    }
}
