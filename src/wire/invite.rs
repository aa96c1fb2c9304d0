//! The one line of an invite: what a machine elsewhere needs to enrol itself once.
//!
//! The text is `syncd-invite-` and the base64url form of `version u8 | key [32] | secret [16] | expires u64 | rights u8 |
//! share | count u8 | addresses | check [4]`, texts as `length u8 | UTF-8`, numbers little-endian. `check` is the start of
//! the SHA-256 of all before it, so that a line that lost something on its way is told from one that is not good any more.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// Bytes of the secret of an invite.
pub const INVITE_SECRET: usize = 16;
/// Addresses that an invite names at most.
pub const MAX_INVITE_ADDRESSES: usize = 8;

const PREFIX: &str = "syncd-invite-";
const VERSION: u8 = 1;
const CHECK: usize = 4;
/// Longest text of an invite; a longer one is not looked at.
const MAX_TEXT: usize = 4096;
const WRITE: u8 = 1;
const NAMED: u8 = 2;
const ROOT: u8 = 4;

/// Which share an invite is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InvitedShare {
    /// The server's directory itself.
    Root,
    /// One of this name.
    Named(String),
    /// A new one, named after the device when it joins.
    Own,
}

/// What an invite says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invite {
    /// SHA-256 of the public key of the server's authority.
    pub key: [u8; 32],
    /// What entitles its holder, once.
    pub secret: [u8; INVITE_SECRET],
    /// Seconds since 1970, by the server's clock. Only the server judges by it.
    pub expires: u64,
    /// Whether the device may change files; otherwise it may only read.
    pub write: bool,
    /// For which share.
    pub share: InvitedShare,
    /// `HOST:PORT`, in the order in which they are tried.
    pub addresses: Vec<String>,
}

/// Why a text is no invite.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InviteTextError {
    /// It does not begin as one.
    #[error("this is no invite: one begins with `{PREFIX}`")]
    Other,
    /// Something is missing, added or changed.
    #[error("the invite is damaged: a part of the line is missing or was changed")]
    Damaged,
    /// It is of a later version of the program.
    #[error("the invite is of a newer release of syncd")]
    Newer,
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend(self.key);
        bytes.extend(self.secret);
        bytes.extend(self.expires.to_le_bytes());
        let share = match &self.share {
            InvitedShare::Root => ROOT,
            InvitedShare::Named(_) => NAMED,
            InvitedShare::Own => 0,
        };
        bytes.push(share | if self.write { WRITE } else { 0 });
        if let InvitedShare::Named(name) = &self.share {
            put(&mut bytes, name);
        }
        let addresses = self.addresses.iter().take(MAX_INVITE_ADDRESSES);
        bytes.push(u8::try_from(addresses.len()).unwrap_or(0));
        for address in addresses {
            put(&mut bytes, address);
        }
        let check = Sha256::digest(&bytes);
        bytes.extend(check.iter().take(CHECK));
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(usize::from(u8::MAX));
    let text = text.get(..end).unwrap_or_default();
    bytes.push(u8::try_from(text.len()).unwrap_or(0));
    bytes.extend(text.bytes());
}

impl FromStr for Invite {
    type Err = InviteTextError;

    /// Reads one, with whatever white space a terminal or a mail put into it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_TEXT {
            return Err(InviteTextError::Damaged);
        }
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let text = text.strip_prefix(PREFIX).ok_or(InviteTextError::Other)?;
        let bytes = BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| InviteTextError::Damaged)?;
        let (body, check) = bytes
            .split_last_chunk::<CHECK>()
            .ok_or(InviteTextError::Damaged)?;
        if !Sha256::digest(body).starts_with(check) {
            return Err(InviteTextError::Damaged);
        }
        let mut rest = body;
        if take::<1>(&mut rest)? != [VERSION] {
            return Err(InviteTextError::Newer);
        }
        let key = take(&mut rest)?;
        let secret = take(&mut rest)?;
        let expires = u64::from_le_bytes(take(&mut rest)?);
        let [rights] = take(&mut rest)?;
        let share = match rights & !WRITE {
            ROOT => InvitedShare::Root,
            NAMED => InvitedShare::Named(take_text(&mut rest)?),
            0 => InvitedShare::Own,
            _ => return Err(InviteTextError::Newer),
        };
        let [count] = take(&mut rest)?;
        let addresses = (0..count)
            .map(|_| take_text(&mut rest))
            .collect::<Result<Vec<_>, _>>()?;
        if !rest.is_empty() || addresses.len() > MAX_INVITE_ADDRESSES {
            return Err(InviteTextError::Damaged);
        }
        Ok(Self {
            key,
            secret,
            expires,
            write: rights & WRITE != 0,
            share,
            addresses,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], InviteTextError> {
    let (first, left) = rest
        .split_first_chunk::<N>()
        .ok_or(InviteTextError::Damaged)?;
    *rest = left;
    Ok(*first)
}

fn take_text(rest: &mut &[u8]) -> Result<String, InviteTextError> {
    let [length] = take(rest)?;
    let (text, left) = rest
        .split_at_checked(usize::from(length))
        .ok_or(InviteTextError::Damaged)?;
    *rest = left;
    String::from_utf8(text.to_vec()).map_err(|_| InviteTextError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::{Invite, InviteTextError, InvitedShare};

    fn invite(share: InvitedShare) -> Invite {
        Invite {
            key: [7; 32],
            secret: [9; 16],
            expires: 1_790_000_000,
            write: share != InvitedShare::Root,
            share,
            addresses: vec!["192.0.2.1:7440".to_owned(), "[2001:db8::1]:7440".to_owned()],
        }
    }

    #[test]
    fn a_line_comes_back_also_when_it_was_wrapped() {
        for share in [
            InvitedShare::Root,
            InvitedShare::Own,
            InvitedShare::Named("photos".to_owned()),
        ] {
            let invite = invite(share);
            let mut text = invite.to_string();
            assert!(
                text.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            );
            text.insert_str(40, "\r\n  ");
            assert_eq!(text.parse(), Ok(invite));
        }
    }

    #[test]
    fn a_line_that_was_bent_is_never_taken_for_another() {
        let text = invite(InvitedShare::Named("photos".to_owned())).to_string();
        for at in 0..text.len() {
            assert!(text[..at].parse::<Invite>().is_err(), "{at}");
            let mut bent = text.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            assert!(String::from_utf8(bent).unwrap().parse::<Invite>().is_err());
        }
        assert_eq!("".parse::<Invite>(), Err(InviteTextError::Other));
        let long = format!("{text}{}", "A".repeat(5000));
        assert_eq!(long.parse::<Invite>(), Err(InviteTextError::Damaged));
        let newer = "syncd-invite-".to_owned()
            + &{
                use sha2::Digest as _;
                let mut bytes = vec![2, 1, 2, 3];
                let check = sha2::Sha256::digest(&bytes);
                bytes.extend(&check[..4]);
                data_encoding::BASE64URL_NOPAD.encode(&bytes)
            };
        assert_eq!(newer.parse::<Invite>(), Err(InviteTextError::Newer));
    }
}
