//! Names of shares, and where they may be: none within another, or what is deleted for one would be the other's.

use super::super::Refusal;
use crate::host::disk::Private;
use crate::host::place::resolved;
use crate::model::limits::MAX_SHARE_NAME;
use crate::model::{Name, escape};
use crate::wire::Code;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Two directories, of one server or two, that lie in one another.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{inner} lies within {outer}, and each would delete what the other has: place them in directories of which none is in the other"
)]
pub struct Nested {
    inner: String,
    outer: String,
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes())
}

/// Checks that the directory of `-d`, and the shares that the settings place, lie in none that another server holds. To be
/// asked before they are held.
pub(super) fn check_above(
    directory: &Path,
    placed: &BTreeMap<String, PathBuf>,
) -> Result<(), Nested> {
    for path in placed.values().map(PathBuf::as_path).chain([directory]) {
        let path = resolved(path);
        if let Some(outer) = Private::held_above(&path) {
            return Err(Nested {
                inner: format!("the directory `{}`", shown(&path)),
                outer: format!("`{}`, which another server uses", shown(outer)),
            });
        }
    }
    Ok(())
}

/// Checks the shares that the settings place, and the directory of `-d`: that one may hold them, as long as it is no share itself.
pub(super) fn check_places(
    directory: &Path,
    placed: &BTreeMap<String, PathBuf>,
) -> Result<(), Nested> {
    let title = |name: &String, path: &Path| format!("the share `{name}` (`{}`)", shown(path));
    let own = resolved(directory);
    let all: Vec<_> = placed
        .iter()
        .map(|(name, path)| (name, resolved(path)))
        .collect();
    for (index, (name, path)) in all.iter().enumerate() {
        let outer = || title(name, path);
        if own.starts_with(path) {
            let inner = format!("the directory `{}`", shown(&own));
            let outer = outer();
            return Err(Nested { inner, outer });
        }
        let mut others = all.iter().enumerate();
        if let Some((_, (name, path))) =
            others.find(|(other, (_, inner))| *other != index && inner.starts_with(path))
        {
            let inner = title(name, path);
            let outer = outer();
            return Err(Nested { inner, outer });
        }
    }
    Ok(())
}

/// Whether a directory can become a share: no share that the settings place lies within it.
pub(super) fn check_free(path: &Path, placed: &BTreeMap<String, PathBuf>) -> Result<(), Refusal> {
    let own = resolved(path);
    let within = placed
        .iter()
        .find(|(_, inner)| resolved(inner).starts_with(&own));
    match within {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::new(
            Code::Mixed,
            format!(
                "the server's settings place the share `{name}` within this one, where it would be deleted: place it elsewhere"
            ),
        )),
    }
}

/// A share's name: one name of a directory, visible, of bounded length.
pub(in crate::daemon::share) fn check_name(name: &str) -> Result<String, Refusal> {
    let valid = Name::new(name.as_bytes()).is_ok()
        && !name.starts_with('.')
        && name.len() <= MAX_SHARE_NAME
        && !name.chars().any(char::is_control);
    if valid {
        Ok(name.to_owned())
    } else {
        Err(Refusal::new(
            Code::NoShare,
            format!(
                "a share's name is 1 to {MAX_SHARE_NAME} bytes without `/` or control characters, and does not start with `.`"
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::{check_free, check_places};
    use std::collections::BTreeMap;
    use std::path::Path;

    #[test]
    fn no_share_may_lie_within_another() {
        let root = Path::new("/nothing/here");
        let check = |placed: &[(&str, &str)]| {
            let placed: BTreeMap<_, _> = placed
                .iter()
                .map(|(name, path)| ((*name).to_owned(), root.join(path)))
                .collect();
            let free = ["dir", "dir/a"].map(|path| check_free(&root.join(path), &placed).is_ok());
            (check_places(&root.join("dir"), &placed).is_ok(), free)
        };
        assert_eq!(
            check(&[("a", "x"), ("b", "xy"), ("c", "y/x")]),
            (true, [true; 2])
        );
        assert_eq!(check(&[("a", "dir/b")]), (true, [false, true]));
        assert_eq!(check(&[("a", "dir/a/b")]), (true, [false; 2]));
        for refused in [
            &[("a", "x"), ("b", "x")][..],
            &[("a", "x/y"), ("b", "x")],
            &[("a", "x"), ("b", "x/y/z")],
            &[("a", "dir")],
            &[("a", "")],
        ] {
            assert!(!check(refused).0, "{refused:?}");
        }
    }
}
