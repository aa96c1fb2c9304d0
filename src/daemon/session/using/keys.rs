//! What is answered about keys.

use super::Using;
use crate::daemon::share::Refusal;
use crate::wire::{Code, KeyAnswer, KeyAsk, KeyRequest, KeyResponse, Response};

/// Answers a request.
pub(super) fn answer(using: &Using, request: KeyRequest) -> Result<(), Refusal> {
    let KeyAsk::Get { .. } = request.ask;
    let answer = KeyAnswer::Failed {
        code: Code::NoShare,
        message: "this server keeps no keys".to_owned(),
    };
    let id = request.id;
    using.answer(&Response::Key(KeyResponse { id, answer }), Vec::new());
    Ok(())
}
