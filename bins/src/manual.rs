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
    let stem = command.get_name().to_owned();
    clap_mangen::generate_to(command, directory).map_err(ToolError::io("write manual pages into", directory))?;
    for entry in std::fs::read_dir(directory).map_err(ToolError::io("list", directory))? {
        let path = entry.map_err(ToolError::io("list", directory))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&stem)) {
            let page = std::fs::read_to_string(&path).map_err(ToolError::io("read", &path))?;
            std::fs::write(&path, with_usual_sections(&page)).map_err(ToolError::io("write", &path))?;
        }
    }
    Ok(Outcome::Done)
}

/// The help's closing text as the sections that man-pages(7) has for it, line by line; the generator makes one
/// section `EXTRA` of it, filled.
fn with_usual_sections(page: &str) -> String {
    let Some((before, rest)) = page.split_once(".SH EXTRA\n") else { return page.to_owned() };
    let (text, after) = rest.find("\n.SH ").map_or((rest, ""), |at| rest.split_at(at + 1));
    let text =
        text.replace("Examples:\n", ".SH EXAMPLES\n.nf\n").replace("Exit status:\n", ".fi\n.SH EXIT STATUS\n.nf\n");
    format!("{before}{text}.fi\n{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_examples_and_exit_codes_in_sections_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        write::<crate::cli::backup::Cli>(dir.path()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("svc-backup.1")).unwrap();
        for section in [".SH NAME", ".SH EXAMPLES\n.nf\n  svc", ".SH EXIT STATUS\n.nf\n"] {
            assert!(page.contains(section), "{section}: {page}");
        }
        assert!(!page.contains("EXTRA"), "{page}");
    }
}
