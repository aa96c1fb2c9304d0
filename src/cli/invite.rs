//! `syncd invite`.

use super::report::{Kind, Report};
use super::{ask, render, runtime, settings};
use crate::config::{Address, Period, ShareName};
use crate::daemon::roster::{InviteAnswer, InviteQuestion};
use crate::host::rights::Access;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `syncd invite`.
#[derive(Debug, Args)]
pub struct InviteArguments {
    /// The server's directory (default: the only server that runs)
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// A name for the device (default: the name of its machine)
    #[arg(long)]
    name: Option<String>,
    /// The share that the device may use (default: a new one, named after the device)
    #[arg(long, value_name = "NAME", conflicts_with = "root")]
    share: Option<ShareName>,
    /// The device may use the server's directory itself
    #[arg(long)]
    root: bool,
    /// The device may change files (default)
    #[arg(long, conflicts_with = "read_only")]
    write: bool,
    /// The device may only read
    #[arg(long)]
    read_only: bool,
    /// How long the line is good, at most 30 days
    #[arg(long, value_name = "TIME", default_value = "1h")]
    expires: Period,
    /// Where the device finds the server, if not where it listens: a public name, a forwarded port; several times for several
    #[arg(long, value_name = "HOST:PORT")]
    address: Vec<Address>,
    /// Instead of a line: enrol the key of this PEM certificate at once (for servers with certificates of your own)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["expires", "address"])]
    certificate: Option<PathBuf>,
}

const LONGEST: Duration = Duration::from_hours(30 * 24);

/// Runs the command.
///
/// # Errors
/// When no server answers or several could, the directory is used in another way, or the list cannot be changed.
pub fn run(arguments: &InviteArguments) -> Result<(), Report> {
    let question = question(arguments)?;
    let directory = arguments.directory.as_deref();
    let directory = directory.map(settings::absolute).transpose()?;
    let asked = serde_json::to_value(&question).unwrap_or_default();
    let answer: InviteAnswer = runtime::run(|_| ask::server(directory, "invite", asked))?;
    if let Some(device) = &answer.device {
        return render::line(&format!("enrolled `{device}`"));
    }
    explain(&question, &answer, arguments.expires);
    render::line(answer.invite.as_deref().unwrap_or_default())
}

fn question(arguments: &InviteArguments) -> Result<InviteQuestion, Report> {
    let usage = |message: &str| Report::new(Kind::Usage, message.to_owned());
    let expires = arguments.expires.0;
    if expires < Duration::from_secs(1) || expires > LONGEST {
        return Err(usage("an invite is good for 1 s to 30 days"));
    }
    let certificate = arguments.certificate.as_deref();
    let certificate = certificate.map(settings::read_pem).transpose()?;
    if certificate.is_some()
        && (arguments.name.is_none() || arguments.share.is_none() && !arguments.root)
    {
        return Err(usage("a certificate needs a name and a share")
            .hint("add `--name NAME`, and `--share NAME` or `--root`"));
    }
    Ok(InviteQuestion {
        name: arguments.name.clone(),
        share: arguments.share.as_ref().map(ShareName::to_string),
        root: arguments.root,
        access: if arguments.read_only {
            Access::Read
        } else {
            Access::Write
        },
        expires_seconds: expires.as_secs(),
        addresses: arguments.address.iter().map(Address::to_string).collect(),
        certificate,
    })
}

/// What the line is good for, beside it: the line itself is all of the output.
fn explain(question: &InviteQuestion, answer: &InviteAnswer, expires: Period) {
    let share = match (&question.share, question.root, &question.name) {
        (Some(name), _, _) => format!("the share `{name}`"),
        (None, true, _) => "the server's directory itself".to_owned(),
        (None, false, Some(_)) => "a share with its name".to_owned(),
        (None, false, None) => "a new share with its name".to_owned(),
    };
    let verb = question.access.word();
    let mut notes = vec![format!(
        "one device may {verb} {share}; run `syncd join` with this line there within {expires}"
    )];
    if answer.loopback {
        notes.push(format!(
            "this server listens on {} only, so the line is of no use on other machines: start the server with `--listen 0.0.0.0:7440` (or `listen` in its settings) and invite again",
            answer.addresses.join(" and ")
        ));
    } else {
        notes.push(format!(
            "it finds the server at {}",
            answer.addresses.join(", ")
        ));
    }
    if answer.reopened {
        notes.push("clients of this home may enrol themselves again, too".to_owned());
    }
    super::report::note(&notes);
}
