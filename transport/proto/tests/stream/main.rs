//! Behaviour of `Stream` through its public face, rule by rule of `docs/wire/stream.md`.

#[cfg(test)]
mod close;
#[cfg(test)]
mod document;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod end;
#[cfg(test)]
mod flood;
#[cfg(test)]
mod handshake;
#[cfg(test)]
mod lengths;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod timeouts;
