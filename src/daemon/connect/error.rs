//! Why there is no connection, by what can be done about it.

use super::own;
use crate::host::enrolment::EnrolmentError;
use crate::host::own::OwnError;
use crate::host::tls::Rejection;
use crate::wire::JoinCode;
use std::io;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered.
    #[error("cannot reach `{server}`")]
    Unreachable {
        /// What was dialled.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server is one that this home knows nothing of.
    #[error(
        "this device is not enrolled with the server at `{server}`, and it left no invite in this home"
    )]
    NoInvite {
        /// What was dialled.
        server: String,
        /// Its id.
        server_id: String,
    },
    /// One side does not accept the other.
    #[error("the server at `{server}` and this client do not accept each other")]
    Refused {
        /// What was dialled.
        server: String,
        /// Why.
        source: Rejection,
        /// Whether certificates of the owner's own were shown.
        own: bool,
    },
    /// The server does not enrol this device.
    #[error("the server at `{server}` does not enrol this device: {message}")]
    NotEnrolled {
        /// What was dialled.
        server: String,
        /// Why, for a program.
        code: JoinCode,
        /// Why, for a person.
        message: String,
    },
    /// The server speaks something else.
    #[error("the server at `{server}` speaks no common version of the protocol")]
    Version {
        /// What was dialled.
        server: String,
    },
    /// Certificates of the owner's own cannot be used.
    #[error("cannot use the certificates of `[tls]`")]
    Own(#[source] OwnError),
    /// Keys or certificates could not be made or kept here.
    #[error("cannot keep this device's key")]
    Local(#[source] EnrolmentError),
}

/// The classes of failure that callers tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectKind {
    /// Try again later.
    Unreachable,
    /// An invite is needed; try again later too, a local server may still start.
    NoInvite,
    /// Trying again does not help before somebody acts.
    Refused,
    /// One side must be upgraded.
    Version,
    /// This machine's storage.
    Local,
}

impl ConnectError {
    /// The class.
    #[must_use]
    pub fn kind(&self) -> ConnectKind {
        match self {
            Self::Unreachable { .. } => ConnectKind::Unreachable,
            Self::NoInvite { .. } => ConnectKind::NoInvite,
            // A secret that has just been replaced, or a moment of too many: the next try reads the invite anew.
            Self::NotEnrolled {
                code: JoinCode::Secret | JoinCode::Busy | JoinCode::Failed,
                ..
            } => ConnectKind::Unreachable,
            Self::Refused { .. } | Self::NotEnrolled { .. } => ConnectKind::Refused,
            Self::Version { .. } => ConnectKind::Version,
            Self::Local(_) | Self::Own(_) => ConnectKind::Local,
        }
    }

    /// Of two failures of one attempt, the one that tells more: any answer tells more than silence.
    #[must_use]
    pub(super) fn telling(first: Option<Self>, second: Self) -> Self {
        match first {
            Some(first) if second.kind() == ConnectKind::Unreachable => first,
            _ => second,
        }
    }

    /// The same for whoever shows certificates of the owner's own.
    #[must_use]
    pub(super) fn with_own(self) -> Self {
        match self {
            Self::Refused { server, source, .. } => Self::Refused {
                server,
                source,
                own: true,
            },
            other => other,
        }
    }

    /// What a person can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "is the server running, and is the address right? a server on another machine is joined first: `syncd invite` there, `syncd join` here"
            }
            Self::NoInvite { .. } => {
                "`syncd invite` on the server's machine prints a line for `syncd join` here; a server of the same user, with the same HOME, on this machine needs none"
            }
            Self::Refused {
                source, own: true, ..
            } => own::hint(source),
            Self::Refused { source, .. } => source.hint(),
            Self::NotEnrolled { code, .. } => match code {
                JoinCode::Used | JoinCode::Expired => {
                    "ask for a new line: `syncd invite` on the server prints one"
                }
                JoinCode::Secret => {
                    "ask for a new line: `syncd invite` on the server prints one; a server on this machine leaves a new local invite when it starts"
                }
                JoinCode::Closed | JoinCode::Revoked => {
                    "`syncd invite` on the server lets devices in again, `syncd clients` there lists them"
                }
                _ => "try again, and look at the server's log",
            },
            Self::Version { .. } => "install the same release of `syncd` on both sides",
            Self::Own(_) => "`syncd certs init` makes a complete set",
            Self::Local(_) => "check the directory named above",
        }
    }
}
