//! Two ends of QUIC that trust each other.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]
#![allow(unreachable_pub, reason = "each test binary has it where it needs it")]

use ringway_engine::{Identity, QuicConfig, Roots, TlsConfig};

/// Settings of QUIC for two ends with the same certificate, which is also the only one that they trust.
pub fn trusting_each_other() -> QuicConfig {
    static MADE: std::sync::LazyLock<TlsConfig> = std::sync::LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(vec!["ringway.test".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        TlsConfig::builder()
            .identity(Identity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap())
            .roots(Roots::from_pem(certificate.as_bytes()).unwrap())
            .server_name("ringway.test")
            .build()
            .unwrap()
    });
    QuicConfig::new(MADE.clone())
}
