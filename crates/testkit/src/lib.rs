//! Simulated network, clock and NAT boxes, scripted phones (development only).
#![forbid(unsafe_code)]
