//! Completions and manual pages, made from the command line's own types.

use std::path::Path;

use clap::CommandFactory;

use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render::Output;

/// Prints the completions of a shell.
///
/// # Errors
/// When standard output can't be written to.
pub fn completions<C: CommandFactory>(output: &Output, shell: clap_complete::Shell) -> Result<Outcome, ToolError> {
    let mut command = C::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output.text(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

/// Writes a page for the program and one for each of its commands.
///
/// # Errors
/// When a file can't be written.
pub fn write<C: CommandFactory>(directory: &Path) -> Result<Outcome, ToolError> {
    std::fs::create_dir_all(directory).map_err(ToolError::io("create", directory))?;
    let mut command = C::command().disable_help_subcommand(true);
    command.build();
    clap_mangen::generate_to(command, directory).map_err(ToolError::io("write manual pages into", directory))?;
    Ok(Outcome::Done)
}
