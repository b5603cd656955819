//! A call of seven messages between two users that the generator both plays: INVITE 100 180 200 ACK BYE 200.
//!
//! The server between them is checked as it goes: the INVITE must reach the telephone that registered, in-dialog requests
//! follow Record-Route and Contact, and the SDP arrives either as it was sent or, when the relay is asked for, naming a relay
//! port on both sides. The latency is that from INVITE to 200 at the caller.

use std::{net::SocketAddr, ops::RangeInclusive};

use crate::{
    engine::{Net, Progress, Scenario},
    users::{Realm, TELEPHONE, User, put_request},
    wire::{Message, branch, call_id, media_address, put, put_decimal, split_commas, uri},
};

/// Calls from the first user of a pair to the second.
pub(crate) struct Call {
    calls: Vec<Pair>,
    realm: Realm,
    /// The relay's ports where media must be anchored.
    relay: Option<RangeInclusive<u16>>,
    part: Part,
}

/// How much of a call is one unit.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// Up to the ACK: the call stays up.
    SetUp,
    /// BYE and its 200 for a call that was set up.
    HangUp,
}

/// Where a pair's telephones want their media, and where the server told them to send it.
#[derive(Clone, Copy)]
pub(crate) struct Media {
    pub(crate) caller: SocketAddr,
    pub(crate) callee: SocketAddr,
    /// Where the caller sends: from the SDP in the 200.
    pub(crate) caller_sends_to: SocketAddr,
    /// Where the callee sends: from the SDP in the INVITE.
    pub(crate) callee_sends_to: SocketAddr,
}

struct Pair {
    caller: User,
    callee: User,
    media: Media,
    serial: u32,
    stage: Stage,
    dialog: Dialog,
    answer: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Idle,
    Inviting,
    Answered,
    Acknowledged,
    HangingUp,
}

/// What the caller keeps of the 200 for its requests inside the dialog.
#[derive(Default)]
struct Dialog {
    target: Vec<u8>,
    /// The Route header line, empty without Record-Route.
    route: Vec<u8>,
    from: Vec<u8>,
    to: Vec<u8>,
    ack: Vec<u8>,
}

impl Call {
    /// Pairs `callers` with `callees`; `media` names the addresses for their SDP.
    pub(crate) fn new(
        callers: Vec<User>,
        callees: Vec<User>,
        media: impl Fn(usize) -> (SocketAddr, SocketAddr),
        realm: &Realm,
        relay: Option<RangeInclusive<u16>>,
    ) -> Call {
        let pairs = callers.into_iter().zip(callees).enumerate();
        let calls = pairs.map(|(slot, (caller, callee))| {
            let (ours, theirs) = media(slot);
            let media = Media {
                caller: ours,
                callee: theirs,
                caller_sends_to: theirs,
                callee_sends_to: ours,
            };
            let stage = Stage::Idle;
            Pair {
                caller,
                callee,
                media,
                serial: 0,
                stage,
                dialog: Dialog::default(),
                answer: Vec::new(),
            }
        });
        Call {
            calls: calls.collect(),
            realm: realm.clone(),
            relay,
            part: Part::Whole,
        }
    }

    /// From now on a unit is this part of a call.
    pub(crate) fn set_part(&mut self, part: Part) {
        self.part = part;
    }

    /// The media addresses of each call that is up.
    pub(crate) fn media(&self) -> Vec<Media> {
        self.calls
            .iter()
            .filter(|pair| pair.stage == Stage::Acknowledged)
            .map(|pair| pair.media)
            .collect()
    }

    fn invite(&mut self, slot: usize, net: &mut Net) {
        let pair = &mut self.calls[slot];
        let (serial, media) = (pair.serial, pair.media.caller);
        let caller = &mut pair.caller;
        caller.cseq += 1;
        let address = net.address(caller.socket).to_vec();
        let target = &pair.callee.aor;
        let (tag, branch, sdp) = (
            branch(slot, serial, 0),
            branch(slot, serial, caller.cseq),
            sdp(media),
        );
        net.request(slot, caller.socket, |out| {
            put_request(out, b"INVITE", target, &address, &branch);
            put(
                out,
                &[
                    b"From: <",
                    &caller.aor,
                    b">;tag=",
                    &tag,
                    b"\r\nTo: <",
                    target,
                    b">\r\nCall-ID: ",
                ],
            );
            call_id(out, slot, serial);
            put(out, &[b"\r\nCSeq: "]);
            put_decimal(out, caller.cseq);
            put(
                out,
                &[b" INVITE\r\nContact: ", &caller.contact, b"\r\n", TELEPHONE],
            );
            if caller.answered {
                caller
                    .credentials
                    .put(out, b"Proxy-Authorization", &caller.name, b"INVITE", target);
            }
            put_body(out, &sdp);
        });
    }

    /// What came to the caller.
    fn at_caller(&mut self, slot: usize, message: &Message<'_>, net: &mut Net) -> Progress {
        let pair = &mut self.calls[slot];
        match (message.method, message.status, pair.stage) {
            (b"INVITE", 100..=199, Stage::Inviting) => {
                net.stop(slot, pair.caller.socket);
                Progress::Open
            }
            (b"INVITE", 200, Stage::Inviting) if message.cseq == pair.caller.cseq => {
                self.answered(slot, message, net)
            }
            (b"INVITE", 200, Stage::Answered | Stage::Acknowledged) => {
                net.send(pair.caller.socket, &pair.dialog.ack);
                Progress::Stray
            }
            (b"INVITE", 300.., stage) => {
                net.send(pair.caller.socket, &refused_ack(slot, pair, message, net));
                if stage != Stage::Inviting || message.cseq != pair.caller.cseq {
                    return Progress::Stray;
                }
                if message.status == 407
                    && !pair.caller.answered
                    && pair.caller.challenged(&message.challenges, &self.realm)
                {
                    net.challenged += 1;
                    self.invite(slot, net);
                    return Progress::Open;
                }
                self.over(slot, Progress::Failed(message.status.to_string()))
            }
            (b"BYE", 200, Stage::HangingUp) => self.over(slot, Progress::Completed),
            (b"BYE", 300.., Stage::HangingUp) => {
                self.over(slot, Progress::Failed(format!("{} to BYE", message.status)))
            }
            _ => Progress::Stray,
        }
    }

    fn answered(&mut self, slot: usize, message: &Message<'_>, net: &mut Net) -> Progress {
        match self.relay_of(message.body, self.calls[slot].media.callee) {
            Some(relay) => self.calls[slot].media.caller_sends_to = relay,
            None => return self.over(slot, Progress::Failed("SDP in the 200".into())),
        }
        let pair = &mut self.calls[slot];
        pair.stage = Stage::Answered;
        pair.dialog.keep(message);
        let ack = within_dialog(slot, pair, b"ACK", net);
        net.stop(slot, pair.caller.socket);
        net.send(pair.caller.socket, &ack);
        pair.dialog.ack = ack;
        Progress::Reached
    }

    fn hang_up(&mut self, slot: usize, net: &mut Net) {
        let pair = &mut self.calls[slot];
        pair.stage = Stage::HangingUp;
        pair.caller.cseq += 1;
        let bye = within_dialog(slot, pair, b"BYE", net);
        net.request(slot, pair.caller.socket, |out| out.extend_from_slice(&bye));
    }

    /// What came to the callee.
    fn at_callee(&mut self, slot: usize, socket: usize, message: &Message<'_>, net: &mut Net) -> Progress {
        let pair = &mut self.calls[slot];
        match (message.method, pair.stage) {
            (b"INVITE", Stage::Inviting) if socket != pair.callee.socket => {
                self.over(slot, Progress::Failed("INVITE at the wrong telephone".into()))
            }
            (b"INVITE", Stage::Inviting) => {
                match self.relay_of(message.body, self.calls[slot].media.caller) {
                    Some(relay) => self.calls[slot].media.callee_sends_to = relay,
                    None => return self.over(slot, Progress::Failed("SDP in the INVITE".into())),
                }
                let pair = &mut self.calls[slot];
                net.send(socket, &response(pair, message, b"180 Ringing", None));
                pair.answer = response(pair, message, b"200 OK", Some(pair.media.callee));
                net.request(slot, socket, |out| out.extend_from_slice(&pair.answer));
                Progress::Open
            }
            (b"INVITE", Stage::Answered) => {
                net.send(socket, &pair.answer);
                Progress::Stray
            }
            (b"ACK", Stage::Answered) => {
                net.stop(slot, pair.callee.socket);
                pair.stage = Stage::Acknowledged;
                if self.part == Part::SetUp {
                    return Progress::Completed;
                }
                self.hang_up(slot, net);
                Progress::Open
            }
            (b"BYE", _) => {
                net.send(socket, &response(pair, message, b"200 OK", None));
                Progress::Open
            }
            _ => Progress::Stray,
        }
    }

    /// The media address in `body`, if it is what it should be: the relay's, or `sent` unchanged where there is no relay.
    fn relay_of(&self, body: &[u8], sent: SocketAddr) -> Option<SocketAddr> {
        let found = media_address(body)?;
        let right = match &self.relay {
            Some(ports) => found.ip() != sent.ip() && ports.contains(&found.port()),
            None => found == sent,
        };
        right.then_some(found)
    }

    fn over(&mut self, slot: usize, progress: Progress) -> Progress {
        self.calls[slot].stage = Stage::Idle;
        progress
    }
}

impl Scenario for Call {
    fn start(&mut self, slot: usize, net: &mut Net) {
        if self.part == Part::HangUp {
            return self.hang_up(slot, net);
        }
        let pair = &mut self.calls[slot];
        pair.serial += 1;
        pair.stage = Stage::Inviting;
        pair.caller.answered = false;
        self.invite(slot, net);
    }

    fn receive(&mut self, slot: usize, socket: usize, message: &Message<'_>, net: &mut Net) -> Progress {
        let Some(pair) = self.calls.get(slot) else {
            return Progress::Stray;
        };
        if message.key() != Some((slot, pair.serial)) {
            return Progress::Stray;
        }
        match message.status {
            0 => self.at_callee(slot, socket, message, net),
            _ => self.at_caller(slot, message, net),
        }
    }
}

impl Dialog {
    fn keep(&mut self, message: &Message<'_>) {
        self.target = uri(message.contact).to_vec();
        self.from = message.from.to_vec();
        self.to = message.to.to_vec();
        self.route.clear();
        let mut routes: Vec<&[u8]> = message.record_routes.iter().flat_map(split_commas).collect();
        routes.reverse();
        if !routes.is_empty() {
            put(&mut self.route, &[b"Route: ", &routes.join(&b", "[..]), b"\r\n"]);
        }
    }
}

fn within_dialog(slot: usize, pair: &Pair, method: &[u8], net: &Net) -> Vec<u8> {
    let (caller, dialog) = (&pair.caller, &pair.dialog);
    let mut out = Vec::with_capacity(1024);
    let branch = [&branch(slot, pair.serial, caller.cseq)[..], method].concat();
    put_request(
        &mut out,
        method,
        &dialog.target,
        net.address(caller.socket),
        &branch,
    );
    put(
        &mut out,
        &[
            &dialog.route,
            b"From: ",
            &dialog.from,
            b"\r\nTo: ",
            &dialog.to,
            b"\r\nCall-ID: ",
        ],
    );
    call_id(&mut out, slot, pair.serial);
    put(&mut out, &[b"\r\nCSeq: "]);
    put_decimal(&mut out, caller.cseq);
    put(
        &mut out,
        &[
            b" ",
            method,
            b"\r\nUser-Agent: trapez-load\r\nContent-Length: 0\r\n\r\n",
        ],
    );
    out
}

/// The ACK for a final response that is no 200: hop by hop, with the branch of its INVITE.
fn refused_ack(slot: usize, pair: &Pair, message: &Message<'_>, net: &Net) -> Vec<u8> {
    let caller = &pair.caller;
    let mut out = Vec::with_capacity(512);
    let branch = branch(slot, pair.serial, message.cseq);
    put_request(
        &mut out,
        b"ACK",
        &pair.callee.aor,
        net.address(caller.socket),
        &branch,
    );
    put(
        &mut out,
        &[
            b"From: ",
            message.from,
            b"\r\nTo: ",
            message.to,
            b"\r\nCall-ID: ",
            message.call_id,
        ],
    );
    put(&mut out, &[b"\r\nCSeq: "]);
    put_decimal(&mut out, message.cseq);
    put(&mut out, &[b" ACK\r\nContent-Length: 0\r\n\r\n"]);
    out
}

/// The callee's response to a request that came through the server, with SDP that names `media`.
fn response(pair: &Pair, request: &Message<'_>, status: &[u8], media: Option<SocketAddr>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1500);
    put(&mut out, &[b"SIP/2.0 ", status, b"\r\n"]);
    for via in request.vias.iter() {
        put(&mut out, &[b"Via: ", via, b"\r\n"]);
    }
    for route in request.record_routes.iter() {
        put(&mut out, &[b"Record-Route: ", route, b"\r\n"]);
    }
    put(&mut out, &[b"From: ", request.from, b"\r\nTo: ", request.to]);
    if request.method == b"INVITE" {
        put(&mut out, &[b";tag=t", &request.call_id[..17]]);
    }
    put(&mut out, &[b"\r\nCall-ID: ", request.call_id, b"\r\nCSeq: "]);
    put_decimal(&mut out, request.cseq);
    put(
        &mut out,
        &[
            b" ",
            request.method,
            b"\r\nContact: ",
            &pair.callee.contact,
            b"\r\n",
            TELEPHONE,
        ],
    );
    match media {
        Some(media) => put_body(&mut out, &sdp(media)),
        None => put(&mut out, &[b"Content-Length: 0\r\n\r\n"]),
    }
    out
}

fn put_body(out: &mut Vec<u8>, sdp: &[u8]) {
    put(out, &[b"Content-Type: application/sdp\r\nContent-Length: "]);
    put_decimal(out, sdp.len() as u32);
    put(out, &[b"\r\n\r\n", sdp]);
}

fn sdp(media: SocketAddr) -> Vec<u8> {
    let (address, port) = (media.ip(), media.port());
    format!(
        "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 8 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n\
         a=ptime:20\r\na=sendrecv\r\n"
    )
    .into_bytes()
}
