//! Units of one user and the server: OPTIONS answered; REGISTER, 401, REGISTER, 200; REGISTER with a cached nonce.

use crate::{
    engine::{Net, Progress, Scenario},
    users::{Realm, TELEPHONE, User, put_request},
    wire::{Message, branch, call_id, put, put_decimal},
};

/// OPTIONS to the server itself.
pub(crate) struct Options {
    users: Vec<User>,
    domain: Vec<u8>,
}

/// REGISTER of each user's own contact. A user's registrations share a Call-ID and count CSeq up, as a telephone's do.
pub(crate) struct Register {
    users: Vec<User>,
    realm: Realm,
    reuse_nonce: bool,
}

impl Options {
    pub(crate) fn new(users: Vec<User>, realm: &Realm) -> Options {
        Options {
            users,
            domain: realm.domain.clone(),
        }
    }
}

impl Scenario for Options {
    fn start(&mut self, slot: usize, net: &mut Net) {
        let user = &mut self.users[slot];
        user.cseq += 1;
        let address = net.address(user.socket).to_vec();
        let branch = branch(slot, 0, user.cseq);
        net.request(slot, user.socket, |out| {
            let mut uri = Vec::with_capacity(64);
            put(&mut uri, &[b"sip:", &self.domain]);
            put_request(out, b"OPTIONS", &uri, &address, &branch);
            put(
                out,
                &[
                    b"From: <",
                    &user.aor,
                    b">;tag=",
                    &branch,
                    b"\r\nTo: <",
                    &uri,
                    b">\r\nCall-ID: ",
                ],
            );
            call_id(out, slot, user.cseq);
            put(out, &[b"\r\nCSeq: "]);
            put_decimal(out, user.cseq);
            put(
                out,
                &[
                    b" OPTIONS\r\nContact: ",
                    &user.contact,
                    b"\r\nAccept: application/sdp\r\n",
                    TELEPHONE,
                    END,
                ],
            );
        });
    }

    fn receive(&mut self, slot: usize, _: usize, message: &Message<'_>, _: &mut Net) -> Progress {
        if message.status < 200 || message.cseq != self.users[slot].cseq {
            return Progress::Stray;
        }
        self.users[slot].cseq += 1;
        match message.status {
            200 => Progress::Completed,
            status => Progress::Failed(status.to_string()),
        }
    }
}

impl Register {
    /// With `reuse_nonce`, a user answers the last challenge again until the server calls it stale.
    pub(crate) fn new(users: Vec<User>, realm: &Realm, reuse_nonce: bool) -> Register {
        Register {
            users,
            realm: realm.clone(),
            reuse_nonce,
        }
    }

    /// From now on nonces are used again.
    pub(crate) fn reuse_nonces(&mut self) {
        self.reuse_nonce = true;
    }

    fn send(&mut self, slot: usize, authorized: bool, net: &mut Net) {
        let user = &mut self.users[slot];
        user.cseq += 1;
        let address = net.address(user.socket).to_vec();
        let branch = branch(slot, 0, user.cseq);
        let mut uri = Vec::with_capacity(64);
        put(&mut uri, &[b"sip:", &self.realm.domain]);
        net.request(slot, user.socket, |out| {
            put_request(out, b"REGISTER", &uri, &address, &branch);
            put(
                out,
                &[
                    b"From: <",
                    &user.aor,
                    b">;tag=",
                    &branch,
                    b"\r\nTo: <",
                    &user.aor,
                    b">\r\nCall-ID: ",
                ],
            );
            call_id(out, slot, 0);
            put(out, &[b"\r\nCSeq: "]);
            put_decimal(out, user.cseq);
            put(
                out,
                &[
                    b" REGISTER\r\nContact: ",
                    &user.contact,
                    b"\r\nExpires: 3600\r\n",
                    TELEPHONE,
                ],
            );
            if authorized {
                user.credentials
                    .put(out, b"Authorization", &user.name, b"REGISTER", &uri);
            }
            put(out, &[END]);
        });
    }
}

impl Scenario for Register {
    fn start(&mut self, slot: usize, net: &mut Net) {
        self.users[slot].answered = false;
        let cached = self.reuse_nonce && self.users[slot].credentials.is_ready();
        self.send(slot, cached, net);
    }

    fn receive(&mut self, slot: usize, _: usize, message: &Message<'_>, net: &mut Net) -> Progress {
        let user = &mut self.users[slot];
        if message.status < 200 || message.cseq != user.cseq || message.method != b"REGISTER" {
            return Progress::Stray;
        }
        match message.status {
            200 => {
                user.cseq += 1;
                user.credentials.informed(message.authentication_info);
                match message.contact.is_empty() {
                    false => Progress::Completed,
                    true => Progress::Failed("200 without the binding".into()),
                }
            }
            401 if !user.answered && user.challenged(&message.challenges, &self.realm) => {
                net.challenged += 1;
                self.send(slot, true, net);
                Progress::Open
            }
            status => {
                user.cseq += 1;
                Progress::Failed(status.to_string())
            }
        }
    }
}

const END: &[u8] = b"Content-Length: 0\r\n\r\n";
