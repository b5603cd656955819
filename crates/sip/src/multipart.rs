//! Finds one part of a body: all of it, or what a multipart body (RFC 2046 5.1, in SIP RFC 5621) holds of that type.
//!
//! [`Part::find`] says where it is, [`Edits::set_part`](crate::Edits::set_part) puts another text there and leaves all else,
//! boundaries and other parts, as it came. Nothing is copied. Encoded parts (base64) are not opened.

use std::ops::Range;

use memchr::memmem;

use crate::headers::Params;
use crate::message::Message;
use crate::text::trim;

/// A part of a message's body; offsets count from the start of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it says, without its own header lines.
    pub content: Range<usize>,
    /// The number in a Content-Length line of its own, which some gateways write.
    pub length: Option<Range<usize>>,
}

impl Part {
    /// All of the message's body.
    pub fn whole(m: Message<'_>) -> Part {
        Part {
            content: 0..m.body().len(),
            length: None,
        }
    }

    /// The message's body if it is of that type (`application/sdp`), or else the first part of that type in a multipart body,
    /// [`MAX_DEPTH`] levels deep at most.
    pub fn find(m: Message<'_>, media_type: &str) -> Option<Part> {
        if m.is_content_type(media_type) {
            return Some(Part::whole(m));
        }
        let content_type = m.content_type().ok()??;
        find_in(m.body(), 0, content_type, media_type, MAX_DEPTH)
    }
}

/// Multipart bodies within one another that are looked into.
pub const MAX_DEPTH: usize = 3;

/// The part in `body`, which stands at `offset` of the whole.
fn find_in(body: &[u8], offset: usize, content_type: &str, media_type: &str, depth: usize) -> Option<Part> {
    let (kind, params) = split(content_type);
    let (top, _) = kind.split_once('/')?;
    if depth == 0 || !trim(top).eq_ignore_ascii_case("multipart") {
        return None;
    }
    let boundary = params.value("boundary").filter(|boundary| !boundary.is_empty())?;
    let mut at = delimiter(body, 0, boundary)?.end;
    while let Some(next) = delimiter(body, at, boundary) {
        let head = read_head(body.get(at..next.start)?, offset + at);
        let content = head.content..offset + next.start;
        let (kind, _) = split(head.content_type);
        if head.is_plain && kind.eq_ignore_ascii_case(media_type) && content.start <= content.end {
            let length = head.length;
            return Some(Part { content, length });
        }
        let inner = body
            .get(content.start.checked_sub(offset)?..next.start)
            .unwrap_or_default();
        let nested = find_in(inner, content.start, head.content_type, media_type, depth - 1);
        if nested.is_some() {
            return nested;
        }
        at = next.end;
    }
    None
}

/// The next line `--boundary` at or after `from`, with the line end before it, which is part of it (RFC 2046 5.1.1). After the last
/// one, which ends in two dashes, there is none.
fn delimiter(body: &[u8], from: usize, boundary: &str) -> Option<Range<usize>> {
    let mut search = from;
    loop {
        let found = search + memmem::find(body.get(search..)?, boundary.as_bytes())?;
        search = found + boundary.len();
        let Some(dashes) = found
            .checked_sub(2)
            .filter(|at| *at >= from && body[*at..found] == *b"--")
        else {
            continue;
        };
        let start = match &body[..dashes] {
            [] => dashes,
            [.., b'\r', b'\n'] if dashes >= from + 2 => dashes - 2,
            [.., b'\n'] if dashes > from => dashes - 1,
            // The line end was that of the delimiter before: an empty part.
            [.., b'\n'] => dashes,
            _ => continue,
        };
        let rest = &body[search..];
        let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        // A longer boundary may begin like this one; behind it stand dashes, blanks, or nothing.
        if rest[..line]
            .iter()
            .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
            || rest.starts_with(b"--")
        {
            return Some(start..search + line);
        }
    }
}

/// What the header lines of a part say.
struct Head<'a> {
    content_type: &'a str,
    /// Not encoded in any way.
    is_plain: bool,
    length: Option<Range<usize>>,
    /// Where the content starts in the whole.
    content: usize,
}

fn read_head(part: &[u8], offset: usize) -> Head<'_> {
    let mut head = Head {
        // RFC 2046 5.1: what does not name its type is plain text.
        content_type: "text/plain",
        is_plain: true,
        length: None,
        content: offset,
    };
    let mut at = 0;
    while let Some(rest) = part.get(at..).filter(|rest| !rest.is_empty()) {
        let end = at + memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let line = str::from_utf8(&part[at..end]).unwrap_or("x:");
        at = end;
        head.content = offset + at;
        if trim(line).is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let (name, value) = (trim(name), trim(value));
        if name.eq_ignore_ascii_case("Content-Type") || name.eq_ignore_ascii_case("c") {
            head.content_type = value;
        } else if name.eq_ignore_ascii_case("Content-Transfer-Encoding") {
            head.is_plain = ["binary", "8bit", "7bit"]
                .iter()
                .any(|plain| value.eq_ignore_ascii_case(plain));
        } else if name.eq_ignore_ascii_case("Content-Length") || name.eq_ignore_ascii_case("l") {
            let start = offset + crate::text::offset_in(part, value.as_bytes());
            head.length = Some(start..start + value.len());
        }
    }
    head
}

fn split(content_type: &str) -> (&str, Params<'_>) {
    let end = content_type.find(';').unwrap_or(content_type.len());
    let (kind, params) = content_type.split_at(end);
    (trim(kind), Params::new(params))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Edits;
    use crate::message::MessageBuf;

    fn message(content_type: &str, body: &str) -> MessageBuf {
        let head = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>\r\n\
            Call-ID: x\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n";
        MessageBuf::parse(format!(
            "{head}Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .expect("a message")
    }

    /// What is found, and the body after it was replaced by `new`.
    fn found(content_type: &str, body: &str, new: &str) -> Option<(String, String)> {
        let message = message(content_type, body);
        let m = message.message();
        let part = Part::find(m, "application/sdp")?;
        let text = str::from_utf8(&m.body()[part.content.clone()])
            .expect("text")
            .to_owned();
        let mut edits = Edits::new();
        edits.set_part(m, &part, new.as_bytes());
        let mut out = Vec::new();
        edits.write(m, &mut out);
        let out = MessageBuf::parse(out).expect("a message");
        let body = out.message().body();
        assert_eq!(out.message().content_length(), Ok(Some(body.len() as u32)));
        Some((text, String::from_utf8(body.to_vec()).expect("text")))
    }

    const MIXED: &str = "preamble\r\n--b1\r\nContent-Type: application/isup;version=x\r\n\r\nraw --b1 data\r\n--b1\r\n\
        Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n\r\n--b1--\r\nepilogue";

    #[test]
    fn the_part_of_that_type_is_replaced_and_all_else_stays() {
        for kind in [
            "multipart/mixed;boundary=b1",
            "Multipart/Related; type=\"application/sdp\"; boundary=\"b1\"",
        ] {
            let (text, body) = found(kind, MIXED, "v=0\r\no=new\r\n").expect("a part");
            assert_eq!(text, "v=0\r\n");
            let expected = MIXED
                .replace("v=0\r\n", "v=0\r\no=new\r\n")
                .replace(": 5\r\n", ": 12\r\n");
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn a_body_that_is_no_multipart_is_all_or_nothing() {
        assert_eq!(
            found("application/sdp", "v=0\r\n", "w"),
            Some(("v=0\r\n".into(), "w".into()))
        );
        assert_eq!(found("text/plain;boundary=b1", MIXED, ""), None);
        assert_eq!(found("multipart/mixed", MIXED, ""), None);
        assert_eq!(found("multipart/mixed;boundary=\"\"", MIXED, ""), None);
    }

    #[test]
    fn a_multipart_within_a_multipart_is_looked_into() {
        let nested = "--a\r\nContent-Type: multipart/alternative; boundary=a1\r\n\r\n--a1\r\n\r\ntext\r\n--a1\r\nc: application/sdp\r\n\r\nv=0\r\n--a1--\r\n--a--\r\n";
        let (text, body) = found("multipart/mixed;boundary=a", nested, "w=1").expect("a part");
        assert_eq!((text.as_str(), body), ("v=0", nested.replace("v=0", "w=1")));
        let mut deep = nested.to_owned();
        for level in 1..MAX_DEPTH {
            let outer = level - 1;
            let inner = if outer == 0 {
                "a".to_owned()
            } else {
                format!("l{outer}")
            };
            deep = format!(
                "--l{level}\r\nContent-Type: multipart/mixed; boundary={inner}\r\n\r\n{deep}\r\n--l{level}--"
            );
        }
        let kind = format!("multipart/mixed;boundary=l{}", MAX_DEPTH - 1);
        assert_eq!(found(&kind, &deep, ""), None);
    }

    #[test]
    fn broken_and_foreign_parts_are_left_alone() {
        for body in [
            "",
            "--b1",
            "--b1\r\n",
            "--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n",
            "--b1\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w\r\n--b1--",
            "--b1x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b1x--",
            "--b1\r\n--b1\r\n--b1--",
            "x--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b1--",
        ] {
            assert_eq!(found("multipart/mixed;boundary=b1", body, "w"), None, "{body}");
        }
        let bare = "--b1\nContent-Type: application/sdp\n\nv=0\n--b1--";
        assert_eq!(
            found("multipart/mixed;boundary=b1", bare, "w").map(|(text, _)| text),
            Some("v=0".into())
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_there_what_is_found_lies_within(body in "(--b|b|-|\r\n|\n|c: application/sdp|c:multipart/x;boundary=b|l: |v=0| ){0,40}") {
            let message = message("multipart/mixed; boundary=b", &body);
            let m = message.message();
            if let Some(part) = Part::find(m, "application/sdp") {
                assert!(m.body().get(part.content.clone()).is_some());
                assert!(part.length.is_none_or(|length| length.end <= part.content.start));
            }
        }
    }
}
