//! Parquet as the hub stores datasets: columns of text and integers, and images in a struct with their bytes.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use delta_dct::Error as DeltaError;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};

use super::table::{Cell, Table};
use crate::error::Result;

/// All columns of a file.
pub(super) fn read(path: &Path) -> Result<Table> {
    let file = File::open(path).map_err(|e| DeltaError::io("read", path, e))?;
    // The parquet crate panics on column types that it has no value for, and on some damaged files.
    let panicked =
        |_| Err(ParquetError::General("damaged, or a type of column that cannot be read".to_owned()));
    let read = catch_unwind(AssertUnwindSafe(|| rows(file))).unwrap_or_else(panicked);
    let wrong = |e| DeltaError::corrupt(format!("{}: {e}", path.display()));
    let (names, rows) = read.map_err(wrong)?;
    Ok(Table { file: path.display().to_string(), names, rows })
}

fn rows(file: File) -> ParquetResult<(Vec<String>, Vec<Vec<Cell>>)> {
    let reader = SerializedFileReader::new(file)?;
    let names = reader.metadata().file_metadata().schema().get_fields().iter().map(|f| f.name().to_owned());
    let cells = |row: Row| row.into_columns().into_iter().map(|(_, field)| cell(field)).collect();
    let rows = reader.get_row_iter(None)?.map(|row| row.map(cells)).collect::<ParquetResult<_>>()?;
    Ok((names.collect(), rows))
}

fn cell(field: Field) -> Cell {
    match field {
        Field::Str(text) => Cell::Text(text),
        Field::Bool(yes) => Cell::Int(yes.into()),
        Field::Byte(n) => Cell::Int(n.into()),
        Field::Short(n) => Cell::Int(n.into()),
        Field::Int(n) => Cell::Int(n.into()),
        Field::Long(n) => Cell::Int(n),
        Field::UByte(n) => Cell::Int(n.into()),
        Field::UShort(n) => Cell::Int(n.into()),
        Field::UInt(n) => Cell::Int(n.into()),
        Field::ULong(n) => i64::try_from(n).map_or(Cell::None, Cell::Int),
        Field::Bytes(bytes) => Cell::Bytes(bytes.data().to_vec()),
        Field::Group(row) => {
            let bytes = row.into_columns().into_iter().find(|(name, _)| name == "bytes");
            bytes.map_or(Cell::None, |(_, field)| cell(field))
        }
        _ => Cell::None,
    }
}
