//! The rows as a Parquet file.

use std::sync::Arc;

use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::export::{COLUMNS, Values};
use super::row::Row;

/// The content of the file: one row group, every column optional.
pub(super) fn write(rows: &[Row]) -> Result<Vec<u8>> {
    let field = |(name, values): &(&str, Values)| match values {
        Values::Text(_) => format!("optional binary {name} (UTF8);"),
        Values::Integer(_) => format!("optional int64 {name};"),
        Values::Number(_) => format!("optional double {name};"),
        Values::Truth(_) => format!("optional boolean {name};"),
    };
    let fields: String = COLUMNS.iter().map(field).collect();
    let schema = Arc::new(parse_message_type(&format!("message runs {{ {fields} }}"))?);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::default())?;
    let mut group = writer.next_row_group()?;
    for (name, values) in COLUMNS {
        let missing = || ParquetError::General(format!("no column {name}"));
        let mut column = group.next_column()?.ok_or_else(missing)?;
        match values {
            Values::Text(of) => {
                fill(column.typed::<ByteArrayType>(), rows.iter().map(|row| of(row).map(ByteArray::from)))
            }
            Values::Integer(of) => {
                fill(column.typed::<Int64Type>(), rows.iter().map(|row| i64::try_from(of(row)?).ok()))
            }
            Values::Number(of) => fill(column.typed::<DoubleType>(), rows.iter().map(of)),
            Values::Truth(of) => fill(column.typed::<BoolType>(), rows.iter().map(of)),
        }?;
        column.close()?;
    }
    group.close()?;
    writer.into_inner()
}

/// Writes a column: the values that are there, and for each row whether there is one.
fn fill<T: DataType>(
    column: &mut ColumnWriterImpl<'_, T>,
    values: impl Iterator<Item = Option<T::T>>,
) -> Result<()> {
    let (mut present, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    column.write_batch(&present, Some(&levels), None).map(|_| ())
}
