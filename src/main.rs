//! Trapez: the SIP service provider in one binary.

fn main() {}
