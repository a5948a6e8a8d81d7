//! The states of a stream and every transition between them.
//!
//! ```text
//!            hello                 finish() and the peer's final, in either order
//!  ┌───────┐ heard  ┌──────────────────────────────┐        ┌──────────────────┐
//!  │ Hello ├───────►│ Open{local, remote}          ├───────►│ Open, both Final │ = Drained
//!  └───┬───┘        │ each: Active─►Draining─►Final│        └────────┬─────────┘
//!      │            └───────┬──────────────────────┘                 │
//!      │ close(), violation, timeout: Closed ◄───────────────────────┤
//!      │ CLOSE heard: PeerClosed ◄───────────────────────────────────┤
//!      └─ end of stream: Ended ◄── from everywhere ◄─────────────────┘
//! ```
//!
//! `local` may leave Active while the hello is still awaited. Closed ignores what is heard; PeerClosed and
//! Ended refuse it. One method per event, each one `match`; `tests/state_table.txt` holds the full table.

use core::fmt;

use crate::wire::CloseCode;

/// How far one direction is on its way to the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// Messages flow.
    Active,
    /// The end of messages is announced.
    Draining,
    /// The last message has passed.
    Final,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The peer's hello is awaited.
    Hello { local: Half },
    /// Both hellos were good.
    Open { local: Half, remote: Half },
    /// This end said CLOSE, or fell silent towards a stranger.
    Closed,
    /// The peer said CLOSE.
    PeerClosed { code: CloseCode },
    /// The peer's end of stream was seen.
    Ended,
}

/// Something was heard in a state that has no place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No hello came before it. The parser never lets it come to that.
    BeforeHello,
    /// The hello has come already. The parser never lets it come to that.
    HelloTwice,
    /// The peer had sent its final.
    AfterFinal,
    /// The peer had closed or ended.
    AfterClose,
}

impl State {
    /// A good hello was heard.
    pub(crate) const fn on_hello(self) -> Result<Self, Refusal> {
        match self {
            Self::Hello { local } => Ok(Self::Open {
                local,
                remote: Half::Active,
            }),
            Self::Open { .. } => Err(Refusal::HelloTwice),
            Self::Closed => Ok(self),
            Self::PeerClosed { .. } | Self::Ended => Err(Refusal::AfterClose),
        }
    }

    /// The header of a message was heard.
    pub(crate) const fn on_message(self) -> Result<Self, Refusal> {
        match self {
            Self::Hello { .. } => Err(Refusal::BeforeHello),
            Self::Open {
                remote: Half::Active | Half::Draining,
                ..
            }
            | Self::Closed => Ok(self),
            Self::Open {
                remote: Half::Final,
                ..
            } => Err(Refusal::AfterFinal),
            Self::PeerClosed { .. } | Self::Ended => Err(Refusal::AfterClose),
        }
    }

    /// A GOAWAY was heard; `last` when it is the final one. Repeats change nothing.
    pub(crate) const fn on_goaway(self, last: bool) -> Result<Self, Refusal> {
        match self {
            Self::Hello { .. } => Err(Refusal::BeforeHello),
            Self::Open { local, remote } => Ok(Self::Open {
                local,
                remote: remote.advanced(last),
            }),
            Self::Closed => Ok(self),
            Self::PeerClosed { .. } | Self::Ended => Err(Refusal::AfterClose),
        }
    }

    /// A CLOSE was heard.
    pub(crate) const fn on_close(self, code: CloseCode) -> Result<Self, Refusal> {
        match self {
            Self::Hello { .. } => Err(Refusal::BeforeHello),
            Self::Open { .. } => Ok(Self::PeerClosed { code }),
            Self::Closed => Ok(self),
            Self::PeerClosed { .. } | Self::Ended => Err(Refusal::AfterClose),
        }
    }

    /// The stream ended, at the end of a frame. The bool: everything had been announced.
    pub(crate) const fn on_end(self) -> (Self, bool) {
        match self {
            Self::Open {
                remote: Half::Final,
                ..
            }
            | Self::Closed
            | Self::PeerClosed { .. }
            | Self::Ended => (Self::Ended, true),
            Self::Open {
                remote: Half::Active | Half::Draining,
                ..
            }
            | Self::Hello { .. } => (Self::Ended, false),
        }
    }

    /// This end announces its end of messages, or (`last`) sends its final. Repeats change nothing.
    pub(crate) const fn goaway(self, last: bool) -> Self {
        match self {
            Self::Hello { local } => Self::Hello {
                local: local.advanced(last),
            },
            Self::Open { local, remote } => Self::Open {
                local: local.advanced(last),
                remote,
            },
            Self::Closed | Self::PeerClosed { .. } | Self::Ended => self,
        }
    }

    /// This end closes.
    pub(crate) const fn close(self) -> Self {
        match self {
            Self::Hello { .. } | Self::Open { .. } | Self::Closed => Self::Closed,
            Self::PeerClosed { .. } | Self::Ended => self,
        }
    }

    /// Messages may come from the peer.
    pub(crate) const fn receives(self) -> bool {
        matches!(
            self,
            Self::Open {
                remote: Half::Active | Half::Draining,
                ..
            }
        )
    }

    /// Messages may go to the peer.
    pub(crate) const fn sends(self) -> bool {
        matches!(
            self,
            Self::Open {
                local: Half::Active | Half::Draining,
                ..
            }
        )
    }

    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    pub(crate) const fn is_hello(self) -> bool {
        matches!(self, Self::Hello { .. })
    }

    pub(crate) const fn local(self) -> Option<Half> {
        match self {
            Self::Hello { local } | Self::Open { local, .. } => Some(local),
            Self::Closed | Self::PeerClosed { .. } | Self::Ended => None,
        }
    }

    pub(crate) const fn remote(self) -> Option<Half> {
        match self {
            Self::Open { remote, .. } => Some(remote),
            Self::Hello { .. } | Self::Closed | Self::PeerClosed { .. } | Self::Ended => None,
        }
    }

    pub(crate) const fn name(self) -> StateName {
        match self {
            Self::Hello { .. } => StateName::Hello,
            Self::Open {
                local: Half::Active,
                remote: Half::Active,
            } => StateName::Open,
            Self::Open {
                local: Half::Final,
                remote: Half::Final,
            } => StateName::Drained,
            Self::Open { .. } => StateName::Draining,
            Self::Closed => StateName::Closed,
            Self::PeerClosed { .. } => StateName::PeerClosed,
            Self::Ended => StateName::Ended,
        }
    }
}

impl Half {
    const fn advanced(self, last: bool) -> Self {
        match (self, last) {
            (_, true) | (Self::Final, false) => Self::Final,
            (Self::Active | Self::Draining, false) => Self::Draining,
        }
    }
}

/// A stream's state, for logs and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateName {
    /// The peer's hello is awaited.
    Hello,
    /// Messages flow in both directions.
    Open,
    /// At least one end has announced its end of messages.
    Draining,
    /// Both ends have sent their last message.
    Drained,
    /// This end has closed.
    Closed,
    /// The peer has closed.
    PeerClosed,
    /// The peer's end of stream was seen.
    Ended,
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "hello",
            Self::Open => "open",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Closed => "closed",
            Self::PeerClosed => "peer-closed",
            Self::Ended => "ended",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn states() -> Vec<State> {
        let halves = [Half::Active, Half::Draining, Half::Final];
        let mut all: Vec<State> = halves.map(|local| State::Hello { local }).to_vec();
        for local in halves {
            all.extend(halves.map(|remote| State::Open { local, remote }));
        }
        all.extend([
            State::Closed,
            State::PeerClosed {
                code: CloseCode::Normal,
            },
            State::Ended,
        ]);
        all
    }

    fn short(state: State) -> String {
        match state {
            State::Hello { local } => format!("Hello({local:?})"),
            State::Open { local, remote } => format!("Open({local:?},{remote:?})"),
            State::PeerClosed { code } => format!("PeerClosed({code:?})"),
            State::Closed | State::Ended => format!("{state:?}"),
        }
    }

    fn outcome(from: State, to: Result<State, Refusal>) -> String {
        match to {
            Ok(to) if to == from => "=".into(),
            Ok(to) => short(to),
            Err(refusal) => format!("! {refusal:?}"),
        }
    }

    fn table() -> String {
        let mut text = String::new();
        for state in states() {
            let (ended, clean) = state.on_end();
            let end = format!(
                "{} {}",
                outcome(state, Ok(ended)),
                if clean { "clean" } else { "abrupt" }
            );
            let rows = [
                ("hello heard", outcome(state, state.on_hello())),
                ("message heard", outcome(state, state.on_message())),
                ("goaway heard", outcome(state, state.on_goaway(false))),
                ("final heard", outcome(state, state.on_goaway(true))),
                (
                    "close heard",
                    outcome(state, state.on_close(CloseCode::Normal)),
                ),
                ("end of stream", end),
                ("drain()", outcome(state, Ok(state.goaway(false)))),
                ("finish()", outcome(state, Ok(state.goaway(true)))),
                ("close()", outcome(state, Ok(state.close()))),
            ];
            text.push_str(&format!(
                "{} [{}] receives {} sends {}\n",
                short(state),
                state.name(),
                state.receives(),
                state.sends()
            ));
            for (event, outcome) in rows {
                text.push_str(&format!("    {event:<14} {outcome}\n"));
            }
        }
        text
    }

    #[test]
    fn every_state_meets_every_event_as_the_table_says() {
        let text = table();
        let expected = include_str!("../../tests/state_table.txt");
        assert!(text == expected, "tests/state_table.txt should be:\n{text}");
    }

    #[test]
    fn nothing_leads_back() {
        fn rank(state: State) -> u32 {
            let half = |half| match half {
                Half::Active => 0,
                Half::Draining => 1,
                Half::Final => 2,
            };
            match state {
                State::Hello { local } => half(local),
                State::Open { local, remote } => 10 + half(local) + half(remote),
                State::Closed | State::PeerClosed { .. } => 20,
                State::Ended => 30,
            }
        }
        for state in states() {
            let next = [
                state.on_hello(),
                state.on_message(),
                state.on_goaway(false),
                state.on_goaway(true),
                state.on_close(CloseCode::Normal),
                Ok(state.on_end().0),
                Ok(state.goaway(false)),
                Ok(state.goaway(true)),
                Ok(state.close()),
            ];
            for next in next.into_iter().flatten() {
                assert!(rank(next) >= rank(state), "{state:?} -> {next:?}");
            }
        }
    }
}
