//! A certificate for the servers over QUIC, made when one starts and told to its client beside the address.

use crate::Outcome;

/// A self-signed certificate for 127.0.0.1 and its key, as PEM.
pub(crate) struct Certificate {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Certificate {
    pub(crate) fn new() -> Outcome<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        Ok(Self {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        })
    }

    /// What a server says: address and certificate in one line.
    pub(crate) fn beside(&self, address: impl std::fmt::Display) -> String {
        format!("{address} {}", self.certificate.replace('\n', "|"))
    }
}

/// Address and certificate of such a line.
pub(crate) fn parted(line: &str) -> Outcome<(&str, String)> {
    let (address, certificate) = line.split_once(' ').ok_or("no certificate was told")?;
    Ok((address, certificate.replace('|', "\n")))
}
