//! `syncd list --cached`.

use super::report::Report;
use super::using;
use super::{overview, render};
use crate::daemon::user::files::{Argument, Cached, Remote, Union};
use crate::model::{RelPath, escape};
use crate::wire::WirePath;
use serde_json::json;

/// Shows which files below some paths the servers keep in memory.
pub(super) async fn show(union: &Union, below: &[Argument], json: bool) -> Result<(), Report> {
    for (server, share) in union.answering() {
        let server = union.is_of_several().then_some(server);
        if let (Some(server), false) = (server, json) {
            render::print(&format!("{server}:\n"))?;
        }
        one(share, server, below, json).await?;
    }
    Ok(())
}

async fn one(
    share: Remote<'_>,
    server: Option<&str>,
    below: &[Argument],
    json: bool,
) -> Result<(), Report> {
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
            let text = if json {
                object(server, file)
            } else {
                line(file)
            };
            render::print(&format!("{text}\n"))?;
        }
        first = next;
        if first.is_none() {
            return Ok(());
        }
    }
}

fn object(server: Option<&str>, file: &Cached) -> String {
    let mut object = json!({
        "path": WirePath::from(&file.path),
        "size": file.size,
        "hits": file.hits,
        "age_ms": file.age_ms,
        "in_use": file.users,
    });
    if let (Some(server), Some(fields)) = (server, object.as_object_mut()) {
        fields.insert("server".to_owned(), json!(server));
    }
    object.to_string()
}

fn line(file: &Cached) -> String {
    let (size, hits, users) = (file.size, file.hits, file.users);
    let (age, name) = (overview::age(file.age_ms), escape(file.path.as_bytes()));
    format!("{size:>14} {hits:>9} {age:>12} {users:>7}  {name}")
}
