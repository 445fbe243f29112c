//! The switch: one rename of one link.

use super::state::Ceased;
use super::{Generation, PublishError, Tree};
use crate::world::disk::{AtPath, sync_dir};

/// Sends readers to a generation, and makes it durable that they are.
///
/// # Errors
/// Whatever fails before the rename leaves `current` as it is; afterwards it is [`PublishError::NotDurable`].
pub(super) fn switch(tree: &Tree, from: Option<Generation>, to: Generation) -> Result<(), PublishError> {
    Ceased::note(tree, from, to)?;
    let (link, new) = (tree.current_link(), tree.new_link());
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        other => other.at("remove", &new)?,
    }
    std::os::unix::fs::symlink(Tree::link_target(to), &new).at("create the link", &new)?;
    std::fs::rename(&new, &link).at("rename into place", &link)?;
    sync_dir(tree.root()).map_err(|cause| PublishError::NotDurable { generation: to, cause })
}
