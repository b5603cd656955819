//! Runs the switch and the media relay on the network and the store.
#![forbid(unsafe_code)]
