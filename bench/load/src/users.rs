//! The users that the generator plays: their names, addresses and credentials.

use crate::{
    digest::Credentials,
    engine::Net,
    wire::{Values, put},
};

/// One account with one telephone, which is one of the generator's sockets.
pub(crate) struct User {
    pub(crate) name: Vec<u8>,
    /// `sip:NAME@DOMAIN`.
    pub(crate) aor: Vec<u8>,
    /// `<sip:NAME@ADDRESS>`.
    pub(crate) contact: Vec<u8>,
    pub(crate) socket: usize,
    pub(crate) credentials: Credentials,
    pub(crate) cseq: u32,
    /// A challenge was answered in the unit under way: a second one means that the password is wrong.
    pub(crate) answered: bool,
}

/// What all users share.
#[derive(Clone)]
pub(crate) struct Realm {
    pub(crate) domain: Vec<u8>,
    pub(crate) password: Vec<u8>,
}

impl User {
    /// Takes a challenge; false if it cannot be answered.
    pub(crate) fn challenged(&mut self, challenges: &Values<'_>, realm: &Realm) -> bool {
        self.answered = true;
        self.credentials
            .challenged(challenges, &self.name, &realm.password)
    }
}

/// Users PREFIX000000 and so on, spread over the sockets `first_socket` to `first_socket + sockets`.
pub(crate) fn users(
    realm: &Realm,
    net: &Net,
    prefix: char,
    count: usize,
    first_socket: usize,
    sockets: usize,
) -> Vec<User> {
    (0..count)
        .map(|index| {
            let name = format!("{prefix}{index:06}").into_bytes();
            let socket = first_socket + index % sockets;
            let (mut aor, mut contact) = (Vec::new(), Vec::new());
            put(&mut aor, &[b"sip:", &name, b"@", &realm.domain]);
            put(&mut contact, &[b"<sip:", &name, b"@", net.address(socket), b">"]);
            User {
                name,
                aor,
                contact,
                socket,
                credentials: Credentials::default(),
                cseq: 0,
                answered: false,
            }
        })
        .collect()
}

/// Writes the start of every request: request line, Via, Max-Forwards.
pub(crate) fn put_request(out: &mut Vec<u8>, method: &[u8], uri: &[u8], address: &[u8], branch: &[u8]) {
    put(
        out,
        &[
            method,
            b" ",
            uri,
            b" SIP/2.0\r\nVia: SIP/2.0/UDP ",
            address,
            b";rport;branch=z9hG4bK",
            branch,
        ],
    );
    put(out, &[b"\r\nMax-Forwards: 70\r\n"]);
}

/// Headers that telephones send and no measured path looks at, for messages of a usual size.
pub(crate) const TELEPHONE: &[u8] = b"User-Agent: trapez-load\r\n\
    Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, REFER, NOTIFY, UPDATE\r\nSupported: replaces, outbound, timer\r\n";
