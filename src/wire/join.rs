//! The messages of enrolment: one frame each way, without a body, over [`crate::wire::ALPN_JOIN`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a client says to be enrolled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// What entitles it.
    pub secret: JoinSecret,
    /// A certificate request for its key, PEM. Nothing but the key is taken from it.
    pub csr: String,
    /// A name for people.
    pub name: String,
}

/// What entitles a client to be enrolled. A kind that the server does not know is refused, not misread.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum JoinSecret {
    /// The secret of the local invite.
    Local {
        /// 64 hexadecimal digits.
        secret: String,
    },
    /// The secret of an invite for one device.
    Invite {
        /// 32 hexadecimal digits.
        secret: String,
    },
}

/// What an invite brought.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Granted {
    /// The device's name on the server.
    pub device: String,
    /// The share; none for the server's directory itself.
    pub share: Option<String>,
    /// Whether the device may change files; otherwise it may only read.
    pub write: bool,
}

/// What the server answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum JoinAnswer {
    /// The device is enrolled.
    Joined {
        /// Its certificate, PEM.
        certificate: String,
        /// The authority's certificate, PEM.
        authority: String,
        /// What it may do. Only in the answer to the secret of an invite for one device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        granted: Option<Granted>,
    },
    /// It is not.
    Refused {
        /// Why.
        code: JoinCode,
        /// For a person.
        message: String,
    },
}

/// Why a device is not enrolled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String")]
pub enum JoinCode {
    /// The secret is not, or no longer, good.
    Secret,
    /// Enrolment is closed.
    Closed,
    /// The invite has brought another device in already.
    Used,
    /// The invite has ended, or was withdrawn.
    Expired,
    /// This key was revoked; another one of the same home may be enrolled.
    Revoked,
    /// The request is damaged or of a kind that the server does not know.
    Request,
    /// Too many ask at the moment.
    Busy,
    /// The server could not.
    Failed,
    /// Anything that a newer server may say.
    Other(String),
}

const CODES: [(&str, JoinCode); 8] = [
    ("secret", JoinCode::Secret),
    ("closed", JoinCode::Closed),
    ("used", JoinCode::Used),
    ("expired", JoinCode::Expired),
    ("revoked", JoinCode::Revoked),
    ("request", JoinCode::Request),
    ("busy", JoinCode::Busy),
    ("failed", JoinCode::Failed),
];

impl From<String> for JoinCode {
    fn from(text: String) -> Self {
        CODES
            .iter()
            .find(|(name, _)| *name == text)
            .map_or(Self::Other(text), |(_, code)| code.clone())
    }
}

impl From<JoinCode> for String {
    fn from(code: JoinCode) -> Self {
        match code {
            JoinCode::Other(text) => text,
            known => CODES
                .iter()
                .find(|(_, code)| *code == known)
                .map_or("failed", |(name, _)| name)
                .to_owned(),
        }
    }
}
