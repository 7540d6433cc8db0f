//! Lists as tables without lines, for people and for `awk`.

use std::fmt::Write as _;

use comfy_table::{ContentArrangement, Table, presets};

/// An empty table, which fits no width: a row is a line.
pub(crate) fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// The text of a table.
pub(crate) fn render(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        // Writing to memory cannot fail.
        let _ = writeln!(text, "{}", line.trim());
    }
    text
}
