//! What several of these tests share.

use std::path::Path;

use mesh_simulations::config::Document;
use mesh_simulations::experiment::Scenario;

/// A scenario with some keys set otherwise; its paths are relative to `directory`.
pub(crate) fn scenario(
    text: &str,
    settings: &[&str],
    directory: &Path,
) -> Result<Scenario, String> {
    let document = Document::parse(text, "test.toml", directory);
    let mut document = document.map_err(|error| error.to_string())?;
    settings.iter().try_for_each(|setting| document.set(setting)).map_err(|e| e.to_string())?;
    Scenario::read(&document).map_err(|error| error.to_string())
}
