//! What a device may do: read or write which shares.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// What may be done with a share. The greater includes the smaller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Files may be read.
    Read,
    /// Files may be changed, too.
    Write,
}

impl Access {
    /// The word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What a device may do. Nothing that is not said here.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "StoredRights")]
pub struct Rights {
    /// With every share and the directory itself.
    everywhere: Option<Access>,
    /// With single shares, by name; the empty name is the directory itself.
    shares: BTreeMap<String, Access>,
}

/// What stands in the file: the layout above, or the first one, in which a device had all rights or none.
#[derive(Deserialize)]
struct StoredRights {
    #[serde(default)]
    everywhere: Option<Access>,
    #[serde(default)]
    shares: Option<BTreeMap<String, Access>>,
    #[serde(default)]
    write: bool,
}

impl From<StoredRights> for Rights {
    fn from(stored: StoredRights) -> Self {
        let all = stored.write.then_some(Access::Write);
        Self {
            everywhere: stored.everywhere.or(all),
            shares: stored.shares.unwrap_or_default(),
        }
    }
}

impl Rights {
    /// Everything: what the owner's own devices get.
    #[must_use]
    pub fn all() -> Self {
        Self {
            everywhere: Some(Access::Write),
            shares: BTreeMap::new(),
        }
    }

    /// Those for one share (`None`: the directory itself).
    #[must_use]
    pub fn of(share: Option<&str>, access: Access) -> Self {
        Self {
            everywhere: None,
            shares: BTreeMap::from([(share.unwrap_or_default().to_owned(), access)]),
        }
    }

    /// What may be done with a share (`None`: the directory itself), if anything.
    #[must_use]
    pub fn access(&self, share: Option<&str>) -> Option<Access> {
        // A peer that asks for a share with an empty name does not mean the directory.
        let own = match share {
            Some("") => None,
            name => self.shares.get(name.unwrap_or_default()).copied(),
        };
        own.max(self.everywhere)
    }

    /// Whether something may be done with a share (`None`: the directory itself).
    #[must_use]
    pub fn allow(&self, share: Option<&str>, wanted: Access) -> bool {
        self.access(share).is_some_and(|access| access >= wanted)
    }

    /// What may be done with every share, if anything.
    #[must_use]
    pub fn everywhere(&self) -> Option<Access> {
        self.everywhere
    }

    /// The shares that are named (`None`: the directory itself).
    pub fn shares(&self) -> impl Iterator<Item = (Option<&str>, Access)> {
        self.shares
            .iter()
            .map(|(name, access)| (Some(name.as_str()).filter(|name| !name.is_empty()), *access))
    }

    /// Adds those of a newer invite: for its share they replace the older ones, others stay.
    pub fn renew(&mut self, newer: Self) {
        self.shares.extend(newer.shares);
        self.everywhere = newer.everywhere.or(self.everywhere);
    }
}

/// Rights that may change while a connection lasts: the list of devices sets them, each request is held against them.
#[derive(Clone, Debug, Default)]
pub struct LiveRights(Arc<RwLock<Rights>>);

impl LiveRights {
    /// As they are now.
    #[must_use]
    pub fn get(&self) -> Rights {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether something may be done with a share (`None`: the directory itself).
    #[must_use]
    pub fn allow(&self, share: Option<&str>, wanted: Access) -> bool {
        let rights = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rights.allow(share, wanted)
    }

    /// Changes them for all who hold them.
    pub fn set(&self, rights: &Rights) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if *held != *rights {
            held.clone_from(rights);
        }
    }
}

impl From<Rights> for LiveRights {
    fn from(rights: Rights) -> Self {
        Self(Arc::new(RwLock::new(rights)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, Rights};

    #[test]
    fn rights_name_shares_and_the_greater_includes_the_smaller() {
        let mut rights = Rights::of(Some("photos"), Access::Write);
        assert!(rights.allow(Some("photos"), Access::Read));
        for (share, wanted) in [
            (Some("x"), Access::Read),
            (None, Access::Read),
            (Some(""), Access::Read),
        ] {
            assert!(!rights.allow(share, wanted), "{share:?}");
        }
        rights.renew(Rights::of(None, Access::Read));
        assert!(rights.allow(None, Access::Read) && !rights.allow(None, Access::Write));
        assert!(
            rights.allow(Some("photos"), Access::Write) && !rights.allow(Some(""), Access::Read)
        );
        rights.renew(Rights::of(Some("photos"), Access::Read));
        assert!(!rights.allow(Some("photos"), Access::Write));
        let text = serde_json::to_string(&rights).unwrap();
        assert_eq!(serde_json::from_str::<Rights>(&text).unwrap(), rights);
        assert!(Rights::all().allow(None, Access::Write));
        assert!(!Rights::default().allow(None, Access::Read));
    }

    #[test]
    fn the_first_layout_is_read() {
        let read = |text| serde_json::from_str::<Rights>(text).unwrap();
        assert_eq!(read(r#"{"write":true,"shares":null}"#), Rights::all());
        assert_eq!(read(r#"{"write":false,"shares":null}"#), Rights::default());
    }
}
