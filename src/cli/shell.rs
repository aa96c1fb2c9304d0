//! `syncd completions` and `syncd man`.

use super::report::{Kind, Report};
use super::{Arguments, render, settings};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::path::PathBuf;

/// Arguments of `syncd completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// Arguments of `syncd man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// Write the pages of all commands to this directory instead of printing the main one
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Runs `syncd completions`.
///
/// # Errors
/// When standard output cannot be written.
pub fn completions(arguments: &CompletionsArguments) -> Result<(), Report> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "syncd",
        &mut script,
    );
    render::write(&script)
}

/// Runs `syncd man`.
///
/// # Errors
/// When the pages cannot be written.
pub fn man(arguments: &ManArguments) -> Result<(), Report> {
    let Some(directory) = &arguments.directory else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
        return match rendered {
            Ok(()) => render::write(&page),
            Err(error) => Err(Report::from_error(Kind::Unexpected, &error)),
        };
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory))
        .map_err(|error| {
            let message = format!("cannot write pages to `{}`", settings::shown(directory));
            Report::new(Kind::Storage, message).caused_by(&error)
        })
}
