//! What a server says, as whoever talks to one reads it.

use super::pump::{FrameReader, PumpError};
use crate::wire::{Frame, Response};
use std::io;
use tokio::io::AsyncRead;

/// The next message, and the frame that it came in.
///
/// # Errors
/// When the line fails, or carries something else.
pub async fn next_response<R: AsyncRead + Unpin>(
    frames: &mut FrameReader<R>,
) -> Result<(Response, Frame), PumpError> {
    let frame = frames.next().await?;
    let response = serde_json::from_slice(&frame.header);
    let response = response.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((response, frame))
}
