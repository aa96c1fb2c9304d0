//! `syncd list --cached`.

use super::report::Report;
use super::using;
use super::{overview, render};
use crate::daemon::user::files::{Argument, Cached, Remote};
use crate::model::{RelPath, escape};
use crate::wire::WirePath;
use serde_json::json;

/// Shows which files below some paths the server keeps in memory.
pub(super) async fn show(share: Remote<'_>, below: &[Argument], json: bool) -> Result<(), Report> {
    let mut first: Option<RelPath> = None;
    let mut titled = json;
    loop {
        let told = share.cached(first.as_ref()).await;
        let (files, next) = told.map_err(|error| using::explain("", &error))?;
        for file in &files {
            let asked = |argument: &Argument| file.path.is_within(argument.path());
            if !below.iter().any(asked) {
                continue;
            }
            if !std::mem::replace(&mut titled, true) {
                render::print("          SIZE      HITS          AGE  IN USE  NAME\n")?;
            }
            let text = if json { object(file) } else { line(file) };
            render::print(&format!("{text}\n"))?;
        }
        first = next;
        if first.is_none() {
            return Ok(());
        }
    }
}

fn object(file: &Cached) -> String {
    json!({
        "path": WirePath::from(&file.path),
        "size": file.size,
        "hits": file.hits,
        "age_ms": file.age_ms,
        "in_use": file.users,
    })
    .to_string()
}

fn line(file: &Cached) -> String {
    let (size, hits, users) = (file.size, file.hits, file.users);
    let (age, name) = (overview::age(file.age_ms), escape(file.path.as_bytes()));
    format!("{size:>14} {hits:>9} {age:>12} {users:>7}  {name}")
}
