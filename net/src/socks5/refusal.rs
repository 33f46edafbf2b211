//! Why a SOCKS5 proxy does not connect.

/// The codes with which a SOCKS5 proxy refuses a request (RFC 1928, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 01.
    #[error("the proxy failed (code 1, general failure)")]
    GeneralFailure,
    /// 02.
    #[error("the proxy's rules do not allow the connection (code 2)")]
    NotAllowed,
    /// 03.
    #[error("the network is unreachable from the proxy (code 3)")]
    NetworkUnreachable,
    /// 04.
    #[error("the host is unreachable from the proxy, or its name unknown (code 4)")]
    HostUnreachable,
    /// 05.
    #[error("the host refused the proxy's connection (code 5)")]
    ConnectionRefused,
    /// 06.
    #[error("the host did not answer the proxy in time (code 6, TTL expired)")]
    TtlExpired,
    /// 07.
    #[error("the proxy does not support CONNECT (code 7)")]
    CommandNotSupported,
    /// 08.
    #[error("the proxy does not support this type of address (code 8)")]
    AddressTypeNotSupported,
    /// A code that the RFC assigns no meaning. Some proxies do: Tor has its own for onion services.
    #[error("the proxy refused with code {0}, to which RFC 1928 assigns no meaning")]
    Unassigned(u8),
}

impl Refusal {
    /// The refusal that `code` stands for; none for the code of success.
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::GeneralFailure,
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::ConnectionRefused,
            6 => Self::TtlExpired,
            7 => Self::CommandNotSupported,
            8 => Self::AddressTypeNotSupported,
            code => Self::Unassigned(code),
        })
    }

    /// Its code.
    pub const fn code(self) -> u8 {
        match self {
            Self::GeneralFailure => 1,
            Self::NotAllowed => 2,
            Self::NetworkUnreachable => 3,
            Self::HostUnreachable => 4,
            Self::ConnectionRefused => 5,
            Self::TtlExpired => 6,
            Self::CommandNotSupported => 7,
            Self::AddressTypeNotSupported => 8,
            Self::Unassigned(code) => code,
        }
    }

    /// Whether the same request may be granted later with nobody changing the configuration.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::NotAllowed | Self::CommandNotSupported | Self::AddressTypeNotSupported => false,
            Self::GeneralFailure
            | Self::NetworkUnreachable
            | Self::HostUnreachable
            | Self::ConnectionRefused
            | Self::TtlExpired
            | Self::Unassigned(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_but_success_is_a_refusal_of_its_own() {
        assert_eq!(Refusal::from_code(0), None);
        for code in 1..=u8::MAX {
            let refusal = Refusal::from_code(code).unwrap();
            assert_eq!(refusal.code(), code);
            assert_eq!(matches!(refusal, Refusal::Unassigned(_)), code > 8);
            assert!(refusal.to_string().contains(&format!("code {code}")), "{refusal}");
        }
    }
}
