//! Descriptions in the manner of real phones, and what the other side reads instead.

use super::*;

/// What the callee reads of this offer; carriage returns are made visible.
fn told(offer: &str) -> String {
    let mut call = Call::new(RelayPolicy::Auto, CALLER);
    let branch = call.session.add_branch(CALLEE);
    call.says(branch, Role::Caller, Carrier::Invite, offer)
        .replace('\r', "␍")
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

#[test]
fn baresip() {
    insta::assert_snapshot!(told(&crlf(
        "v=0
o=- 3911235 1766120 IN IP4 192.168.1.5
s=-
c=IN IP4 192.168.1.5
t=0 0
a=tool:baresip 3.16.0
m=audio 18230 RTP/AVP 96 0 8 101
a=rtpmap:96 opus/48000/2
a=fmtp:96 stereo=1;sprop-stereo=1
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=rtcp:18231
a=sendrecv
a=label:1
a=rtcp-rsize
a=ssrc:1480281022 cname:sip:alice@example.org
a=ptime:20
"
    )));
}

#[test]
fn linphone_with_ice_and_video() {
    insta::assert_snapshot!(told(&crlf(
        "v=0
o=alice 2453 1204 IN IP4 192.168.1.5
s=Talk
c=IN IP4 192.168.1.5
t=0 0
a=ice-pwd:7a1f5e0c7c9f7a6a8e1d2b3c
a=ice-ufrag:0d1e2f3a
a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics
m=audio 7078 RTP/AVPF 96 97 98 0 8 101
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:97 speex/16000
a=rtpmap:98 speex/8000
a=rtpmap:101 telephone-event/48000
a=rtcp:7079
a=candidate:1 1 UDP 2130706303 192.168.1.5 7078 typ host
a=candidate:1 2 UDP 2130706302 192.168.1.5 7079 typ host
a=candidate:2 1 UDP 1694498687 198.51.100.7 61000 typ srflx raddr 192.168.1.5 rport 7078
a=rtcp-fb:* trr-int 5000
m=video 9078 RTP/AVPF 96
c=IN IP4 192.168.1.5
a=rtpmap:96 VP8/90000
a=remote-candidates:1 198.51.100.9 4000
a=rtcp-fb:* ccm fir
a=end-of-candidates
"
    )));
}

#[test]
fn snom_with_srtp_keys_and_line_feeds_only() {
    insta::assert_snapshot!(told(
        "v=0
o=root 1795863 1795863 IN IP4 192.168.1.5
s=call
c=IN IP4 192.168.1.5
t=0 0
m=audio 57076 RTP/SAVP 9 8 0 99 18 101
a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:c2VjcmV0IGtleSBmb3IgYSB0ZXN0IG9ubHksIG5vdCB1c2Vk
a=rtpmap:9 G722/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:0 PCMU/8000
a=rtpmap:99 G726-32/8000
a=rtpmap:18 G729/8000
a=fmtp:18 annexb=no
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
a=sendrecv
"
    ));
}

#[test]
fn yealink_on_hold_the_old_way() {
    insta::assert_snapshot!(told(&crlf(
        "v=0
o=- 20017 20018 IN IP4 192.168.1.5
s=SDP data
c=IN IP4 0.0.0.0
t=0 0
m=audio 11798 RTP/AVP 9 0 8 18 101
a=rtpmap:9 G722/8000
a=fmtp:101 0-15
a=ptime:20
a=sendonly
"
    )));
}

#[test]
fn fritzbox_with_rtcp_address_and_rejected_video() {
    insta::assert_snapshot!(told(&crlf(
        "v=0
o=user 15443180 15443180 IN IP4 192.168.1.5
s=call
c=IN IP4 192.168.1.5
t=0 0
m=audio 7082 RTP/AVP 9 8 0 2 102 100 99 101 97 120 121
a=sendrecv
a=rtpmap:2 G726-32/8000
a=rtpmap:102 G726-32/8000
a=rtpmap:121 CLEARMODE/8000
a=rtcp:7083 IN IP4 192.168.1.5
m=video 0 RTP/AVP 31
"
    )));
}

#[test]
fn browser_like_with_everything_on_one_port() {
    insta::assert_snapshot!(told(&crlf(
        "v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=ice-options:trickle
a=msid-semantic: WMS
m=audio 61000 UDP/TLS/RTP/SAVPF 111 0 110
c=IN IP4 198.51.100.7
a=rtcp:9 IN IP4 0.0.0.0
a=candidate:842163049 1 udp 1677729535 198.51.100.7 61000 typ srflx raddr 0.0.0.0 rport 0
a=ice-ufrag:Oyef
a=ice-pwd:L3vxbn9gVb7xbg2QmdSaDYyA
a=fingerprint:sha-256 49:66:12:17:0D:1C:91:AE:57:4C:C6:36:DD:D5:97:D2
a=setup:actpass
a=mid:0
a=rtcp-mux
a=rtpmap:111 opus/48000/2
"
    )));
}

#[test]
fn gateway_with_chat_and_fax_beside_the_voice() {
    insta::assert_snapshot!(told(&crlf(
        "v=0
o=gw 1 1 IN IP4 192.168.1.5
s=-
c=IN IP4 192.168.1.5
b=AS:128
t=0 0
m=audio 4000/2 RTP/AVP 8
i=the voice
b=AS:64
m=message 7394 TCP/MSRP *
i=the chat
a=path:msrp://192.168.1.5:7394/2s93i9ek2a;tcp
m=image 4004 udptl t38
c=IN IP4 192.168.1.5
a=T38FaxVersion:0
a=T38FaxUdpEC:t38UDPRedundancy"
    )));
}
