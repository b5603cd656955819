//! Puts the relay's addresses into a description. Changed are c=, the ports of m= lines, a=rtcp; taken out are ICE's lines,
//! which would lead around the relay. All else, o= included, stays.
//!
//! Hold by 0.0.0.0 stays what it is (in the other family it becomes ::), m= lines that are not relayed keep the address they
//! had, by a c= line of their own if they relied on the session's.

use std::net::IpAddr;

use crate::command::PortPair;
use crate::sdp::{Connection, Edits, Media, NetworkAddress, Sdp, unspecified};

use super::Error;
use super::description::is_relayable;

/// Appends `sdp` to `out` with `pair(line)` as where the receiver of the description has to send.
/// Returns whether anything had to change; if not, nothing is written.
pub(super) fn write_relayed(
    sdp: &Sdp<'_>,
    pair: impl Fn(usize) -> Option<PortPair>,
    out: &mut Vec<u8>,
) -> Result<bool, Error> {
    let relayed = |line: usize, media: &Media<'_>| {
        let address = sdp.connection_of(media).and_then(|connection| connection.address);
        if media.port == 0 || !is_relayable(media.transport(), address) {
            None
        } else {
            pair(line)
        }
    };
    let mut lines = sdp.media().iter().enumerate();
    let Some(common) = lines
        .find_map(|(line, media)| relayed(line, media))
        .map(|pair| pair.rtp.ip())
    else {
        return Ok(false);
    };
    let mut edits = Edits::new();
    if let Some(connection) = sdp.connection() {
        replace_connection(&mut edits, connection, common);
    }
    for attribute in sdp.attributes().filter(|attribute| attribute.is_ice()) {
        edits.remove(attribute.line);
    }
    for (line, media) in sdp.media().iter().enumerate() {
        match relayed(line, media) {
            Some(pair) => relay_line(&mut edits, sdp, line, media, pair, common)?,
            None => keep_address(&mut edits, sdp, media),
        }
    }
    edits.write(sdp.bytes(), out);
    Ok(true)
}

fn relay_line(
    edits: &mut Edits,
    sdp: &Sdp<'_>,
    line: usize,
    media: &Media<'_>,
    pair: PortPair,
    common: IpAddr,
) -> Result<(), Error> {
    let (ip, port) = (pair.rtp.ip(), pair.rtp.port());
    edits.replace(media.port_range.clone(), format_args!("{port}"));
    match (&media.connection, sdp.connection()) {
        (Some(own), _) => replace_connection(edits, own, ip),
        (None, Some(session)) if ip != common && !session.is_unspecified() => {
            insert_connection(edits, media, format_args!("{}", NetworkAddress(ip)));
        }
        (None, Some(_)) => {}
        (None, None) => return Err(Error::NoConnection { line: line + 1 }),
    }
    if let Some(rtcp) = &media.rtcp {
        // With rtcp-mux phones write the RTP port here.
        let port = if rtcp.port == media.port {
            port
        } else {
            pair.rtcp().port()
        };
        let range = rtcp.range.clone();
        match rtcp.has_address {
            true => edits.replace(range, format_args!("{port} {}", NetworkAddress(ip))),
            false => edits.replace(range, format_args!("{port}")),
        }
    }
    for attribute in media.attributes().filter(|attribute| attribute.is_ice()) {
        edits.remove(attribute.line);
    }
    Ok(())
}

/// A line that the relay leaves alone, in a description whose session address it changes.
fn keep_address(edits: &mut Edits, sdp: &Sdp<'_>, media: &Media<'_>) {
    if media.port != 0
        && media.connection.is_none()
        && let Some(session) = sdp.connection()
    {
        insert_connection(edits, media, format_args!("{}", session.value));
    }
}

fn replace_connection(edits: &mut Edits, connection: &Connection<'_>, ip: IpAddr) {
    let ip = match connection.address {
        Some(address) if address.is_multicast() => return,
        Some(address) if address.is_unspecified() && address.is_ipv6() == ip.is_ipv6() => return,
        Some(address) if address.is_unspecified() => unspecified(ip.is_ipv6()),
        _ => ip,
    };
    edits.replace(connection.range.clone(), format_args!("{}", NetworkAddress(ip)));
}

fn insert_connection(edits: &mut Edits, media: &Media<'_>, value: std::fmt::Arguments<'_>) {
    edits.insert(
        media.connection_position(),
        format_args!("c={value}{}", media.line_end()),
    );
}
