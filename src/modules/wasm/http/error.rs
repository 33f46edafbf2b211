//! What a guest is told where there is no response: one of the codes of `wasi:http`, and nothing of hosts, routes or
//! what proxies say.

use std::io;

use frame_dispatch::wasm::wasmtime;
use frame_net::http::rustls;
use frame_net::http::{BodyError, HttpError};
use frame_net::http_connect::HttpConnectError;
use frame_net::socks5::{HandshakeError, Refusal};
use frame_net::{Cause, DriverError, DriverStep, Host, NetworkError, Route, wireguard};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

/// Why a request cannot be sent at all.
pub(super) fn of_request(failed: &HttpError) -> Error {
    code(failed)
}

/// Why there is no network to send a request through, which the caller writes to the log.
pub(super) fn of_network(failed: &NetworkError) -> Error {
    network(failed)
}

/// Why there is no head of a response, which the caller writes to the log.
pub(super) fn before_the_body(failed: &HttpError) -> Error {
    code(failed)
}

/// Why there is no more of a body, which the caller writes to the log.
pub(super) fn in_the_body(failed: &HttpError) -> Error {
    match failed {
        HttpError::Broken { .. } | HttpError::Protocol { .. } => Error::HttpResponseIncomplete,
        failed => code(failed),
    }
}

/// Why a stream ended early, if it was one of `wasi:http`: what a guest asks of an error of `wasi:io`.
pub(super) fn code_of_stream(failed: &wasmtime::Error) -> Option<ErrorCode> {
    let of_body = || failed.downcast_ref().map(code_of_body);
    failed.downcast_ref().cloned().or_else(of_body)
}

/// The code of what [`in_the_body`] gives, which is not to be had twice.
fn code_of_body(failed: &Error) -> ErrorCode {
    match failed {
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        Error::HttpResponseBodySize(limit) => ErrorCode::HttpResponseBodySize(*limit),
        Error::HttpResponseTrailerSectionSize(limit) => ErrorCode::HttpResponseTrailerSectionSize(*limit),
        Error::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        Error::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        _ => ErrorCode::InternalError(None),
    }
}

fn code(failed: &HttpError) -> Error {
    match failed {
        HttpError::Url(_) => Error::HttpRequestUriInvalid,
        HttpError::Method { .. } => Error::HttpRequestMethodInvalid,
        HttpError::ReservedHeader { .. } | HttpError::InvalidTrailer { .. } | HttpError::Secret(_) => {
            Error::HttpRequestDenied
        }
        HttpError::TooManyHeaders { .. } => Error::HttpRequestHeaderSectionSize(None),
        HttpError::RequestTooLarge { limit } => Error::HttpRequestBodySize(Some(*limit)),
        HttpError::RequestBody(failed) => request_body(failed),
        HttpError::Network(failed) => network(failed),
        HttpError::Tls { source, .. } => tls(source),
        HttpError::Broken { .. } | HttpError::Unsent { .. } | HttpError::Unprocessed { .. } => {
            Error::ConnectionTerminated
        }
        HttpError::AuthorityAsServer { .. } | HttpError::UntrustedIssuer { .. } => Error::TlsCertificateError,
        HttpError::Protocol { .. } | HttpError::TooManyInterim { .. } => Error::HttpProtocolError,
        HttpError::HeadTooLarge { limit, .. } => Error::HttpResponseHeaderSectionSize(Some(*limit)),
        HttpError::TooManyResponseHeaders { .. } => Error::HttpResponseHeaderSectionSize(None),
        HttpError::TrailersTooLarge { .. } => Error::HttpResponseTrailerSectionSize(None),
        HttpError::BodyTooLarge { limit, .. } => Error::HttpResponseBodySize(Some(*limit)),
        HttpError::HostBusy { .. } => Error::ConnectionLimitReached,
        HttpError::ConnectTimedOut { .. } => Error::ConnectionTimeout,
        HttpError::AnswerTimedOut { .. } => Error::ConnectionReadTimeout,
        HttpError::TimedOut { .. } | HttpError::Stalled { .. } => Error::HttpResponseTimeout,
        // The others are of what is not done here: configuring, redirects, and reading text.
        _ => Error::InternalError(None),
    }
}

/// Why the body that a guest writes could not be sent.
fn request_body(failed: &BodyError) -> Error {
    match failed {
        BodyError::Length { read, .. } => Error::HttpRequestBodySize(Some(*read)),
        BodyError::TooLarge { limit } => Error::HttpRequestBodySize(Some(*limit)),
        BodyError::Trailer { .. } => Error::HttpRequestTrailerSectionSize(Some(0)),
        // The guest has dropped it, or the call has ended.
        _ => Error::HttpProtocolError,
    }
}

fn network(failed: &NetworkError) -> Error {
    match failed {
        // A network on the way fails for reasons that are its own: whoever asks through it learns that there is no way.
        NetworkError::Connect { to, route, source } => {
            let is_destination = *route == Route::Clearnet || source.peer() == to.to_string();
            driver(source, is_destination)
        }
        // The network of the frame is not there any more, or there are none.
        _ => Error::ConfigurationError,
    }
}

/// What a driver fails with. `is_destination`: where it was about the destination, and not about a proxy.
fn driver(failed: &DriverError, is_destination: bool) -> Error {
    match failed.cause() {
        Cause::TimedOut { .. } if failed.step() == DriverStep::Lookup => Error::DnsTimeout,
        Cause::TimedOut { .. } | Cause::HttpConnect(HttpConnectError::Refused { status: 504 }) => {
            Error::ConnectionTimeout
        }
        // Of a name, which addresses it has is not for a guest to know.
        Cause::Denied(denied) if denied.address().is_some() && denied.name().is_none() => {
            Error::DestinationIpProhibited
        }
        Cause::Egress(refusal) if matches!(refusal.host(), Host::Address(_)) => {
            Error::DestinationIpProhibited
        }
        Cause::Denied(_)
        | Cause::Egress(_)
        | Cause::HttpConnect(HttpConnectError::Refused { status: 403 }) => Error::HttpRequestDenied,
        Cause::Handshake(HandshakeError::Refused(refusal)) => refused(*refusal),
        Cause::NotSupported { .. } | Cause::WireGuard(wireguard::Refusal::NoNameServer) => {
            Error::ConfigurationError
        }
        Cause::Io(_) if failed.step() == DriverStep::Lookup => {
            Error::DnsError { rcode: None, info_code: None }
        }
        Cause::Io(error) if is_destination => of_io(error),
        _ => Error::DestinationUnavailable,
    }
}

fn of_io(error: &io::Error) -> Error {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => Error::ConnectionRefused,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
            Error::ConnectionTerminated
        }
        Kind::TimedOut => Error::ConnectionTimeout,
        Kind::HostUnreachable | Kind::NetworkUnreachable => Error::DestinationIpUnroutable,
        _ => Error::DestinationUnavailable,
    }
}

/// What a proxy says of the destination.
fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::NotAllowed => Error::HttpRequestDenied,
        Refusal::NetworkUnreachable => Error::DestinationIpUnroutable,
        // It may be the name that is unknown, or the host that is down.
        Refusal::HostUnreachable => Error::DestinationNotFound,
        Refusal::ConnectionRefused => Error::ConnectionRefused,
        Refusal::TtlExpired => Error::ConnectionTimeout,
        _ => Error::DestinationUnavailable,
    }
}

fn tls(error: &io::Error) -> Error {
    let said = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match said {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: None }
        }
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

#[cfg(test)]
mod tests {
    use frame_net::Endpoint;

    use super::*;

    fn connect(route: Route, peer: &str, step: DriverStep, cause: Cause) -> Error {
        let to: Endpoint = "shop.example:80".parse().unwrap();
        network(&NetworkError::Connect { to, route, source: DriverError::new(step, peer, cause) })
    }

    fn overlay() -> Route {
        Route::Network("app:overlay".parse().unwrap())
    }

    #[test]
    fn what_a_proxy_in_between_does_is_not_what_the_destination_does() {
        let refused = || Cause::Io(io::ErrorKind::ConnectionRefused.into());
        let code = connect(Route::Clearnet, "192.0.2.1:80", DriverStep::Connect, refused());
        assert!(matches!(code, Error::ConnectionRefused), "{code}");
        let code = connect(overlay(), "shop.example:80", DriverStep::Connect, refused());
        assert!(matches!(code, Error::ConnectionRefused), "{code}");
        let code = connect(overlay(), "proxy.example:1080", DriverStep::Connect, refused());
        assert!(matches!(code, Error::DestinationUnavailable), "{code}");
    }

    #[test]
    fn what_a_proxy_says_of_the_destination_is_passed_on() {
        let said = |refusal| {
            let cause = Cause::Handshake(HandshakeError::Refused(refusal));
            connect(overlay(), "proxy.example:1080", DriverStep::Connect, cause)
        };
        assert!(matches!(said(Refusal::NotAllowed), Error::HttpRequestDenied));
        assert!(matches!(said(Refusal::HostUnreachable), Error::DestinationNotFound));
        assert!(matches!(said(Refusal::ConnectionRefused), Error::ConnectionRefused));
        assert!(matches!(said(Refusal::GeneralFailure), Error::DestinationUnavailable));
    }

    #[test]
    fn a_name_that_is_not_found_is_the_business_of_dns() {
        let io = || Cause::Io(io::Error::other("failed to lookup address information"));
        assert!(matches!(connect(Route::Clearnet, "x", DriverStep::Lookup, io()), Error::DnsError { .. }));
        let late = Cause::TimedOut { limit: std::time::Duration::from_secs(1) };
        assert!(matches!(connect(Route::Clearnet, "x", DriverStep::Lookup, late), Error::DnsTimeout));
    }

    #[test]
    fn a_certificate_is_not_a_broken_connection() {
        let of = |error: rustls::Error| tls(&io::Error::new(io::ErrorKind::InvalidData, error));
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert!(matches!(of(expired), Error::TlsCertificateError));
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        assert!(matches!(of(alert), Error::TlsAlertReceived { alert_id: Some(40), .. }));
        assert!(matches!(of(rustls::Error::NoApplicationProtocol), Error::TlsProtocolError));
        assert!(matches!(tls(&io::ErrorKind::UnexpectedEof.into()), Error::ConnectionTerminated));
    }
}
