//! SIP as bytes and as state machines. Nothing here does I/O; time and randomness are arguments.
//!
//! A message is its bytes plus an [`Index`] of offsets: nothing is copied, allocated or parsed before it is
//! asked for. Forwarding is a list of [`Edits`] written out in one pass, a reply is a
//! [`Response`]; both leave what they do not understand byte for byte as it came.
#![forbid(unsafe_code)]

pub mod dialog;
pub mod digest;
pub mod edit;
pub mod flow;
pub mod frame;
pub mod header_id;
pub mod headers;
pub mod message;
pub mod method;
pub mod multipart;
pub mod outbox;
pub mod resolve;
pub mod respond;
pub mod status;
pub mod timer;
pub mod transaction;
pub mod uri;

mod text;

pub use edit::Edits;
pub use flow::{ConnectionId, Flow, Transport};
pub use header_id::HeaderId;
pub use message::{Index, Message, MessageBuf};
pub use method::Method;
pub use multipart::Part;
pub use outbox::Outbox;
pub use respond::Response;
pub use text::push_host_port;
pub use uri::Uri;
