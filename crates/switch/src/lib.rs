//! What the provider decides: authentication, registrar, location, routing, forking, NAT policy.
#![forbid(unsafe_code)]
