//! Why a QUIC connection ended, in our words.

use quinn_proto::{ConnectionError, Dir, TransportError, TransportErrorCode, VarInt};
use ringway_proto::packet::{Fault, SessionEnd};
use ringway_proto::{CloseCode, Timeout};

use super::recv::Inbox;
use super::{Session, Stage};

/// Application code of an end that gave up without a word: beyond the 16 bits of a [`CloseCode`].
pub(crate) const ABORT: u32 = 0x1_0000;

/// Alerts of TLS travel as error codes from here on (RFC 9001, 4.8).
const CRYPTO: u64 = 0x100;

impl Session {
    /// quinn-proto has given the connection up.
    pub(super) fn lose(&mut self, reason: &ConnectionError) {
        let opened = !self.is_handshaking();
        let end = match reason {
            ConnectionError::VersionMismatch => SessionEnd::Refused(CloseCode::UnsupportedVersion),
            ConnectionError::TransportError(error) => local_fault(error),
            ConnectionError::ConnectionClosed(close) => peer_fault(close.error_code, opened),
            ConnectionError::ApplicationClosed(close) => {
                match u16::try_from(close.error_code.into_inner()).map(CloseCode::from_wire) {
                    Ok(code) if opened => SessionEnd::Peer(code),
                    Ok(code) => SessionEnd::Refused(code),
                    Err(_) => SessionEnd::Reset,
                }
            }
            ConnectionError::Reset => SessionEnd::Reset,
            ConnectionError::TimedOut if opened => SessionEnd::Expired(Timeout::Keepalive),
            ConnectionError::TimedOut => SessionEnd::Expired(Timeout::Handshake),
            ConnectionError::LocallyClosed => SessionEnd::Local(CloseCode::Normal),
            ConnectionError::CidsExhausted => SessionEnd::Refused(CloseCode::ResourceExhausted),
        };
        // While this end closes, a peer that closes too has everything.
        let end = match (self.stage, end) {
            (Stage::Flushing(code), SessionEnd::Peer(_)) => SessionEnd::Local(code),
            (_, end) => end,
        };
        self.over(end);
    }

    /// Gives back what an ended session holds: it lingers only to answer late packets, and others need the memory.
    pub(super) fn let_go(&mut self) {
        let nothing = VarInt::from_u32(0);
        while let Some(stream) = self.conn.streams().accept(Dir::Uni) {
            self.inbox.open(stream);
        }
        // Errors mean that there is nothing to give back.
        for stream in self.inbox.streams().chain(self.main) {
            let _read = self.conn.recv_stream(stream).stop(nothing);
        }
        if let Some(stream) = self.main {
            let _written = self.conn.send_stream(stream).reset(nothing);
        }
        while self.conn.datagrams().recv().is_some() {}
        self.inbox = Inbox::default();
        self.window = None;
    }
}

/// The alert in a code, if it is one.
fn alert(code: u64) -> Option<u8> {
    u8::try_from(code.checked_sub(CRYPTO)?).ok()
}

/// This end found something wrong.
fn local_fault(error: &TransportError) -> SessionEnd {
    let code = u64::from(error.code);
    if let Some(alert) = alert(code) {
        return SessionEnd::Untrusted { alert, local: true };
    }
    SessionEnd::Violation(match error.code {
        TransportErrorCode::FLOW_CONTROL_ERROR | TransportErrorCode::STREAM_LIMIT_ERROR => {
            Fault::BeyondCredit
        }
        TransportErrorCode::CRYPTO_BUFFER_EXCEEDED
        | TransportErrorCode::KEY_UPDATE_ERROR
        | TransportErrorCode::AEAD_LIMIT_REACHED => Fault::Security(code),
        TransportErrorCode::PROTOCOL_VIOLATION if error.reason.contains("unsent packet") => {
            Fault::AckOfUnsent
        }
        _ => Fault::Malformed { frame: code },
    })
}

/// The peer's QUIC found something wrong with this end, or wants no connection.
fn peer_fault(code: TransportErrorCode, opened: bool) -> SessionEnd {
    let number = u64::from(code);
    if let Some(alert) = alert(number) {
        return SessionEnd::Untrusted {
            alert,
            local: false,
        };
    }
    match code {
        TransportErrorCode::CONNECTION_REFUSED => SessionEnd::Refused(CloseCode::ResourceExhausted),
        TransportErrorCode::NO_ERROR => SessionEnd::Peer(CloseCode::Normal),
        TransportErrorCode::INTERNAL_ERROR => SessionEnd::Peer(CloseCode::Internal),
        _ if opened => SessionEnd::Peer(CloseCode::Malformed),
        _ => SessionEnd::Refused(CloseCode::Malformed),
    }
}
