//! Every bound of the system, with its unit and the reason for its value.

/// Longest name of one directory entry, in bytes (`NAME_MAX` of Linux).
pub const MAX_NAME: usize = 255;
/// Longest path below a root, in bytes (`PATH_MAX` of Linux less its final NUL).
pub const MAX_PATH: usize = 4095;
/// Longest target of a symbolic link, in bytes.
pub const MAX_TARGET: usize = 4095;
/// Longest name of a share, in bytes.
pub const MAX_SHARE_NAME: usize = 64;

/// Longest JSON header of a frame, in bytes.
pub const MAX_HEADER: u32 = 256 * 1024;
/// Longest body of a frame, in bytes.
pub const MAX_BODY: u32 = 4 * 1024 * 1024;
/// Longest header that is read from a peer before it is authenticated, in bytes.
pub const MAX_JOIN_FRAME: u32 = 16 * 1024;

/// A file of at most so many bytes travels whole inside a `mutate` message: one leaf of the content digest.
pub const MAX_INLINE: u64 = LEAF as u64;
/// Operations in one `mutate` message at most.
pub const MAX_OPS: usize = 512;
/// Bytes of bodies after which a `mutate` message is closed.
pub const MUTATE_BODY_TARGET: usize = 1024 * 1024;
/// Entries in one `listing` message at most.
pub const MAX_LISTING: usize = 512;
/// Large files that one session may have open for upload at a time.
pub const MAX_UPLOADS: usize = 64;
/// Bytes of one piece of a large transfer at most.
pub const MAX_PIECE: usize = 256 * 1024;
/// Longest body of such a piece before packing, in bytes: with what instructions add to it.
pub const MAX_PIECE_BODY: usize = MAX_PIECE + 64;

/// Directories above a share that its server names at most.
pub const MAX_ABOVE: usize = 256;
/// Leftovers of uploads that a share keeps at most: as many as may be open at a time.
pub const MAX_LEFTOVERS: usize = MAX_UPLOADS;
/// Bytes of leftovers that a share keeps at most. They go at once when the disk is full.
pub const LEFTOVER_BYTES: u64 = 256 * 1024 * 1024 * 1024;
/// Seconds that a leftover is kept at most: whoever is away for longer sends again.
pub const LEFTOVER_SECONDS: u64 = 7 * 24 * 60 * 60;
/// Smaller leftovers are not kept: to send them again costs little more than to ask for them.
pub const LEFTOVER_LEAST: u64 = 1024 * 1024;

/// Size of a leaf of the content digest, in bytes (DESIGN section 8).
pub const LEAF: usize = 64 * 1024;
/// Smallest block of a recipe, in bytes.
pub const MIN_BLOCK: u32 = 4 * 1024;
/// Largest block of a recipe, in bytes.
pub const MAX_BLOCK: u32 = 1024 * 1024;

/// Bytes of mutations that a client may have sent without an acknowledgement.
pub const MUTATE_WINDOW: u64 = 48 * 1024 * 1024;
/// Bytes of uploads that a client may have sent without them having been written.
pub const UPLOAD_WINDOW: u64 = 8 * 1024 * 1024;
/// Longest value of a key that any server may be set to take, in bytes.
pub const MAX_VALUE: u64 = 64 * 1024 * 1024;
/// Operations that one commit group of the server holds at most.
pub const MAX_GROUP: usize = 4096;

/// Seconds that a connection may take from its acceptance to its first authenticated message.
pub const HANDSHAKE_SECONDS: u64 = 10;
/// Seconds after which a silent line is asked for a sign of life.
pub const KEEPALIVE_SECONDS: u64 = 8;
/// Seconds after which a silent peer is given up.
pub const SILENCE_SECONDS: u64 = 25;

const _: () = assert!(MAX_INLINE <= MAX_BODY as u64);
const _: () = assert!(MUTATE_BODY_TARGET + LEAF + 64 <= MAX_BODY as usize);
const _: () = assert!(MAX_PIECE_BODY <= MAX_BODY as usize);
const _: () = assert!(SILENCE_SECONDS < 30 && KEEPALIVE_SECONDS * 2 < SILENCE_SECONDS);
