//! Bytes to values and back.
//!
//! A frame is `u32 header length | u32 body length | header: JSON | body: raw bytes`, lengths little-endian. It owns the
//! framing, the one serde type per message and the packing of bodies; it does no input or output. The next layer
//! (`engine`) gives the messages their meaning.
//!
//! Minor versions: [`MINOR`] is the newest that this build speaks; the lower of both sides holds.

mod body;
mod code;
mod files;
mod frame;
mod inspect;
mod invite;
mod join;
mod keys;
mod leftover;
mod listing;
pub mod memcached;
mod message;
mod packed;
mod schema;

pub use body::{BodyError, BodyReader, BodyWriter};
pub use code::Code;
pub use files::{CachedFile, FileAnswer, FileAsk, FileRequest, FileResponse, Given, Use};
pub use frame::{Deframer, Frame, FrameError, PREFIX, encode, prefix};
pub use inspect::{Inspect, Inspected, Unread, Visit};
pub use invite::{INVITE_SECRET, Invite, InviteTextError, InvitedShare, MAX_INVITE_ADDRESSES};
pub use join::{Granted, JoinAnswer, JoinCode, JoinRequest, JoinSecret};
pub use keys::{KeyAnswer, KeyAsk, KeyEntry, KeyMode, KeyRequest, KeyResponse, ListedKey};
pub use leftover::Continued;
pub use listing::{ListEntry, ListKind};
pub use message::{Content, Failed, Op, Request, Response, WireBytes, WirePath, WireTime};
pub use packed::{Effort, UnpackError, pack, unpack};
pub use schema::schemas;

/// ALPN name of the protocol.
pub const ALPN: &[u8] = b"syncd/1";
/// ALPN name of enrolment.
pub const ALPN_JOIN: &[u8] = b"syncd-join/1";
/// The newest minor version that this build speaks.
pub const MINOR: u16 = 8;
/// The minor version that brought `renew`, and the word about set-user-id bits in `welcome`.
pub const MINOR_RENEW: u16 = 1;
/// The minor version that brought `visit` and `inspect`.
pub const MINOR_VISIT: u16 = 2;
/// The minor version that brought `drifted`.
pub const MINOR_DRIFTED: u16 = 3;
/// The minor version that brought leftovers: what an upload left is not sent again.
pub const MINOR_LEFTOVER: u16 = 4;
/// The minor version that brought bodies of changes and pieces of uploads that are packed.
pub const MINOR_ZSTD: u16 = 5;
/// The minor version that brought `use`, `file` and `key`.
pub const MINOR_USE: u16 = 6;
/// The minor version that brought the word in `welcome` about where the share is.
pub const MINOR_ABOVE: u16 = 7;
/// The minor version that brought uploads of a `use` by SHA-256 alone: the server tells the content digest.
pub const MINOR_SUM: u16 = 8;
