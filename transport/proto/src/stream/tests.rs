//! Behaviour of the machine, event by event.
