//! SIP as bytes and as state machines.
#![forbid(unsafe_code)]
