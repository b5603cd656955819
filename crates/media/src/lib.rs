//! SDP, RTP and RTCP: one relayed call as a pure state machine.
#![forbid(unsafe_code)]
