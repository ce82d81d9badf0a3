//! Tables in the Parquet format: columns of whole numbers, texts and bytes, in memory.
//!
//! What is written depends on the values alone, so that all nodes write the same bytes.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

/// Rows of one row group, which is what is held in memory twice.
pub(super) const GROUP: usize = 1 << 18;

/// A text or bytes; cloning one is counting a reference.
pub(super) type Text = ByteArray;

/// A table being written.
pub(super) struct Writer {
    file: SerializedFileWriter<Vec<u8>>,
}

impl Writer {
    /// A table of this schema, with notes about it. Columns named in `plain` have values that are all different; the file
    /// will have about `room` bytes.
    pub(super) fn new(
        schema: &str,
        notes: Vec<(&str, String)>,
        plain: &[&str],
        room: usize,
    ) -> io::Result<Writer> {
        let schema = parse_message_type(schema).map_err(io::Error::other)?;
        let notes = notes
            .into_iter()
            .map(|(key, value)| KeyValue::new(format!("gridseal.{key}"), value));
        let mut properties = WriterProperties::builder()
            .set_created_by("gridseal".to_owned())
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_key_value_metadata(Some(notes.collect()));
        for column in plain {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(*column), false);
        }
        let file = SerializedFileWriter::new(
            Vec::with_capacity(room),
            Arc::new(schema),
            Arc::new(properties.build()),
        );
        Ok(Writer {
            file: file.map_err(io::Error::other)?,
        })
    }

    /// Writes some rows, column by column in the order of the schema.
    pub(super) fn group(&mut self, fill: impl FnOnce(&mut Group<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut group = Group {
            group: self.file.next_row_group().map_err(io::Error::other)?,
        };
        fill(&mut group)?;
        group.group.close().map(drop).map_err(io::Error::other)
    }

    /// The whole file.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        self.file.into_inner().map_err(io::Error::other)
    }
}

/// Rows being written.
pub(super) struct Group<'a> {
    group: SerializedRowGroupWriter<'a, Vec<u8>>,
}

impl Group<'_> {
    fn column<T: DataType>(&mut self, values: &[T::T], present: Option<&[i16]>) -> io::Result<()> {
        let column = self.group.next_column().map_err(io::Error::other)?;
        let mut column = column.ok_or_else(|| io::Error::other("a column too many"))?;
        let typed = column.typed::<T>();
        typed
            .write_batch(values, present, None)
            .map_err(io::Error::other)?;
        column.close().map_err(io::Error::other)
    }

    /// A column of whole numbers.
    pub(super) fn longs(&mut self, values: impl Iterator<Item = i64>) -> io::Result<()> {
        self.column::<Int64Type>(&values.collect::<Vec<_>>(), None)
    }

    /// A column of numbers below 2^32.
    pub(super) fn numbers(&mut self, values: impl Iterator<Item = u32>) -> io::Result<()> {
        // The format keeps unsigned numbers in the bits of signed ones.
        let values: Vec<i32> = values.map(u32::cast_signed).collect();
        self.column::<Int32Type>(&values, None)
    }

    /// A column of texts or bytes.
    pub(super) fn texts(&mut self, values: impl Iterator<Item = Text>) -> io::Result<()> {
        self.column::<ByteArrayType>(&values.collect::<Vec<_>>(), None)
    }

    /// A column in which texts may be missing.
    pub(super) fn some_texts(&mut self, values: impl Iterator<Item = Option<Text>>) -> io::Result<()> {
        let (values, present) = split(values);
        self.column::<ByteArrayType>(&values, Some(&present))
    }

    /// A column in which numbers may be missing.
    pub(super) fn some_longs(&mut self, values: impl Iterator<Item = Option<i64>>) -> io::Result<()> {
        let (values, present) = split(values);
        self.column::<Int64Type>(&values, Some(&present))
    }
}

fn split<T>(values: impl Iterator<Item = Option<T>>) -> (Vec<T>, Vec<i16>) {
    // With room for all from the beginning: what grows is moved, see `ledger::snapshot`.
    let rows = values.size_hint().0;
    let (mut some, mut present) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for value in values {
        present.push(i16::from(value.is_some()));
        some.extend(value);
    }
    (some, present)
}

/// A table being read.
pub(super) struct Table {
    file: SerializedFileReader<Bytes>,
}

impl Table {
    /// The table in these bytes.
    pub(super) fn open(content: Bytes) -> io::Result<Table> {
        let file = SerializedFileReader::new(content).map_err(io::Error::other)?;
        Ok(Table { file })
    }

    /// What was noted under this key.
    pub(super) fn note(&self, key: &str) -> Option<&str> {
        let notes = self.file.metadata().file_metadata().key_value_metadata()?;
        let key = format!("gridseal.{key}");
        notes.iter().find(|note| note.key == key)?.value.as_deref()
    }

    /// All of one column. Values may be missing only where `present` is asked for, which then has a 1 for each that isn't.
    fn column<T: DataType>(&self, name: &str, mut present: Option<&mut Vec<i16>>) -> io::Result<Vec<T::T>> {
        let metadata = self.file.metadata();
        let columns = metadata.file_metadata().schema_descr().columns();
        let place = columns.iter().position(|column| column.name() == name);
        let place = place.ok_or_else(|| io::Error::other(format!("no column `{name}`")))?;
        if columns[place].physical_type() != T::get_physical_type() {
            return Err(io::Error::other(format!("column `{name}` is of another type")));
        }
        let mut values = Vec::new();
        for number in 0..metadata.num_row_groups() {
            let group = self.file.get_row_group(number).map_err(io::Error::other)?;
            let rows = usize::try_from(group.metadata().num_rows()).map_err(io::Error::other)?;
            let reader = group.get_column_reader(place).map_err(io::Error::other)?;
            let mut reader = get_typed_column_reader::<T>(reader);
            let (read, _, _) = reader
                .read_records(rows, present.as_deref_mut(), None, &mut values)
                .map_err(io::Error::other)?;
            if read != rows {
                return Err(io::Error::other(format!("column `{name}` is too short")));
            }
        }
        Ok(values)
    }

    /// A column of whole numbers.
    pub(super) fn longs(&self, name: &str) -> io::Result<Vec<i64>> {
        self.column::<Int64Type>(name, None)
    }

    /// A column of numbers below 2^32.
    pub(super) fn numbers(&self, name: &str) -> io::Result<Vec<u32>> {
        let values = self.column::<Int32Type>(name, None)?;
        Ok(values.into_iter().map(i32::cast_unsigned).collect())
    }

    /// A column of texts or bytes.
    pub(super) fn texts(&self, name: &str) -> io::Result<Vec<Text>> {
        self.column::<ByteArrayType>(name, None)
    }

    /// A column in which texts or bytes may be missing.
    pub(super) fn some_texts(&self, name: &str) -> io::Result<Vec<Option<Text>>> {
        let mut present = Vec::new();
        let values = self.column::<ByteArrayType>(name, Some(&mut present))?;
        let mut values = values.into_iter();
        Ok(present
            .into_iter()
            .map(|present| if present == 1 { values.next() } else { None })
            .collect())
    }
}
