//! The rows as a Parquet file.

use std::sync::Arc;

use parquet::column::writer::ColumnWriterImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::export::{COLUMNS, Run, Values};

/// The content of the file: one row group, every column optional.
pub(super) fn write(runs: &[Run<'_>]) -> Result<Vec<u8>> {
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
                fill(column.typed::<ByteArrayType>(), runs.iter().map(|run| of(*run).map(ByteArray::from)))
            }
            Values::Integer(of) => {
                fill(column.typed::<Int64Type>(), runs.iter().map(|run| i64::try_from(of(*run)?).ok()))
            }
            Values::Number(of) => fill(column.typed::<DoubleType>(), runs.iter().map(|run| of(*run))),
            Values::Truth(of) => fill(column.typed::<BoolType>(), runs.iter().map(|run| of(*run))),
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
