//! Codes: why something was refused or failed.

use crate::model::Fault;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why something was refused or failed: stable strings; an unknown one is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Code {
    /// A failure of one change.
    Fault(Fault),
    /// The device may not do this.
    Forbidden,
    /// The device was revoked: nothing is answered to it any more.
    Revoked,
    /// Another writer holds the share.
    Held,
    /// The directory is used in the other way (one share, or the parent of named ones).
    Mixed,
    /// There is no such share, and it is not made.
    NoShare,
    /// The message does not follow the protocol.
    Protocol,
    /// A newer connection of the same writer took over.
    Replaced,
    /// There is something at the path already, or something else than was said.
    Exists,
    /// The server ends.
    Stopping,
    /// The server has as many clients as it may have.
    Busy,
    /// No common version.
    Version,
    /// Anything that a newer peer may say.
    Other(String),
}

const CODES: [(&str, Code); 16] = [
    ("changed", Code::Fault(Fault::Changed)),
    ("denied", Code::Fault(Fault::Denied)),
    ("full", Code::Fault(Fault::Full)),
    ("read_only", Code::Fault(Fault::ReadOnly)),
    ("unrepresentable", Code::Fault(Fault::Unrepresentable)),
    ("io", Code::Fault(Fault::Io)),
    ("forbidden", Code::Forbidden),
    ("revoked", Code::Revoked),
    ("held", Code::Held),
    ("mixed", Code::Mixed),
    ("no_share", Code::NoShare),
    ("protocol", Code::Protocol),
    ("replaced", Code::Replaced),
    ("exists", Code::Exists),
    ("stopping", Code::Stopping),
    ("busy", Code::Busy),
];

impl From<String> for Code {
    fn from(text: String) -> Self {
        if text == "version" {
            return Self::Version;
        }
        CODES
            .iter()
            .find(|(name, _)| *name == text)
            .map_or(Self::Other(text), |(_, code)| code.clone())
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        match code {
            Code::Version => "version".to_owned(),
            Code::Other(text) => text,
            known => CODES
                .iter()
                .find(|(_, code)| *code == known)
                .map_or("io", |(name, _)| name)
                .to_owned(),
        }
    }
}

impl Code {
    /// The fault that it reports of one change.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Fault(fault) => *fault,
            Self::Forbidden => Fault::Denied,
            _ => Fault::Io,
        }
    }
}
