//! Plain tables: aligned columns, one rule under the header, one above the totals.

use std::io;
use std::io::Write;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Rows under a header.
pub(crate) struct Columns {
    table: Table,
    total: bool,
}

impl Columns {
    /// An empty table. A header that begins with `<` is for text (to the left); others are for numbers (to the
    /// right).
    pub(crate) fn new<'a>(header: impl IntoIterator<Item = &'a str>) -> Self {
        let header: Vec<_> = header.into_iter().collect();
        let mut table = Table::new();
        table.load_style(STYLE).set_header(header.iter().map(|name| name.trim_start_matches('<')));
        for (column, name) in table.column_iter_mut().zip(header) {
            if !name.starts_with('<') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table, total: false }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells);
    }

    /// Adds the last row, under a rule.
    pub(crate) fn total(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells);
        self.total = true;
    }

    /// Writes the table.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let text = self.table.trim_fmt();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            if self.total && i + 1 == lines.len() {
                writeln!(out, "{}", lines.get(1).unwrap_or(&""))?;
            }
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}
