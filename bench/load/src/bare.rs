//! Drives the bare loop of `bench/bare.c`: the same numbers of packets in and out as a unit of signalling, with nothing done
//! in between. The first byte of a packet is the number of copies to send back.

use crate::{
    engine::{Net, Progress, Scenario},
    users::User,
    wire::{Message, call_id, put, put_decimal},
};

/// One unit: its packets are sent one after the other, each once all copies of the one before are back.
pub(crate) struct Bare {
    users: Vec<User>,
    /// How many packets the server sends for each that it receives.
    pattern: &'static [u8],
    state: Vec<State>,
}

#[derive(Clone, Default)]
struct State {
    step: usize,
    missing: u8,
    serial: u32,
}

impl Bare {
    pub(crate) fn new(users: Vec<User>, pattern: &'static [u8]) -> Bare {
        let state = vec![State::default(); users.len()];
        Bare {
            users,
            pattern,
            state,
        }
    }

    /// Sends packets up to the first that is answered; false when the unit is over.
    fn step(&mut self, slot: usize, net: &mut Net) -> bool {
        let state = &mut self.state[slot];
        while let Some(copies) = self.pattern.get(state.step) {
            state.step += 1;
            state.serial += 1;
            state.missing = *copies;
            net.request(slot, self.users[slot].socket, |out| {
                out.push(b'0' + copies);
                put(out, &[b" BARE SIP/2.0\r\nCall-ID: "]);
                call_id(out, slot, state.serial);
                put(out, &[b"\r\nCSeq: "]);
                put_decimal(out, state.serial);
                put(out, &[b" BARE\r\n\r\n", &[b'x'; FILL]]);
            });
            if *copies > 0 {
                return true;
            }
        }
        false
    }
}

impl Scenario for Bare {
    fn start(&mut self, slot: usize, net: &mut Net) {
        self.state[slot].step = 0;
        self.step(slot, net);
    }

    fn receive(&mut self, slot: usize, _: usize, message: &Message<'_>, net: &mut Net) -> Progress {
        let state = &mut self.state[slot];
        if message.cseq != state.serial || state.missing == 0 {
            return Progress::Stray;
        }
        state.missing -= 1;
        if state.missing > 0 || self.step(slot, net) {
            return Progress::Open;
        }
        Progress::Completed
    }
}

/// OPTIONS in, 200 out.
pub(crate) const OPTIONS: &[u8] = &[1];
/// REGISTER in, 401 out, REGISTER in, 200 out.
pub(crate) const REGISTER: &[u8] = &[1, 1];
/// INVITE in, 100 and INVITE out; then 180, 200, ACK, BYE, 200 in and out.
pub(crate) const CALL: &[u8] = &[2, 1, 1, 1, 1, 1];
/// Before that: INVITE in, 407 out, ACK in.
pub(crate) const CALL_AUTHENTICATED: &[u8] = &[1, 0, 2, 1, 1, 1, 1, 1];
/// Brings a packet to a usual size, bytes.
const FILL: usize = 600;
