//! Servers, clients and channels.
