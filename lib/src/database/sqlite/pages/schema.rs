//! The schema table (fileformat2.html, 2.6): what there is, and where it begins.

use serde::Serialize;

use super::image::Image;
use super::record::{Value, Values, text};
use super::shape::{IndexShape, TableShape};
use super::tree::Met;

/// More objects than this are not read.
const OBJECTS_MAX: usize = 100_000;
/// A longer row of the schema is not read: SQLite's own bound for a statement is a million bytes.
const ROW_MAX: usize = 2 << 20;
/// All of the schema together.
const TOTAL_MAX: usize = 32 << 20;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// An ordinary table.
    Table,
    /// A virtual table: it has no pages of its own.
    VirtualTable,
    /// An index.
    Index,
    /// A view.
    View,
    /// A trigger.
    Trigger,
}

/// One row of the schema.
#[derive(Debug, Clone)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
    /// The table that it belongs to: its own name for a table.
    pub table: String,
    /// The page where its b-tree begins; 0 for none.
    pub root: u32,
    /// As it was created; `None` for the automatic index of a constraint.
    pub sql: Option<String>,
    /// For a table whose definition is understood.
    pub table_shape: Option<TableShape>,
    /// For an index whose definition, and whose table's, is understood.
    pub index_shape: Option<IndexShape>,
}

/// The objects of a database.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// In the order in which they stand.
    pub objects: Vec<Object>,
    /// The page, and why a part of the schema can't be read, for people.
    pub faults: Vec<(u32, String)>,
}

impl Schema {
    /// Reads it.
    #[must_use]
    pub fn read(image: &Image) -> Self {
        let mut schema = Self::default();
        let mut total = 0;
        image.walk(1, Some(true), ROW_MAX, &mut |met| {
            let fault = match met {
                Met::Fault { page, what } => Some((page, what)),
                Met::Row { page, record: Err(fault), .. } => Some((page, fault.what)),
                Met::Row { page, rowid, record: Ok(record) } => match object(&record, image) {
                    Some(object) => {
                        total += record.len();
                        schema.objects.push(object);
                        None
                    }
                    None => Some((page, format!("row {rowid} is no row of a schema"))),
                },
            };
            schema.faults.extend(fault);
            let go_on = schema.objects.len() < OBJECTS_MAX && schema.faults.len() < 1000 && total < TOTAL_MAX;
            if !go_on {
                schema.faults.push((1, "it is larger than any schema: the rest was not read".to_owned()));
            }
            go_on
        });
        schema.add_shapes(image.header().schema_format >= 4);
        schema
    }

    /// The table of that name, in any case of its letters.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| is_table(object) && object.name.eq_ignore_ascii_case(name))
    }

    fn add_shapes(&mut self, descending: bool) {
        let mut tables = std::collections::HashMap::new();
        for object in self.objects.iter_mut().filter(|object| object.kind == ObjectKind::Table) {
            object.table_shape = object.sql.as_deref().and_then(|sql| TableShape::of(sql, descending));
            if let Some(shape) = &object.table_shape {
                tables.insert(object.name.to_ascii_lowercase(), shape.clone());
            }
        }
        for object in self.objects.iter_mut().filter(|object| object.kind == ObjectKind::Index) {
            let table = tables.get(&object.table.to_ascii_lowercase());
            object.index_shape =
                table.and_then(|table| IndexShape::of(&object.name, object.sql.as_deref(), table, descending));
        }
    }
}

fn is_table(object: &Object) -> bool {
    matches!(object.kind, ObjectKind::Table | ObjectKind::VirtualTable)
}

fn object(record: &[u8], image: &Image) -> Option<Object> {
    let encoding = image.layout().encoding;
    let mut fields = Values::of(record)?;
    let mut word = || match fields.next()? {
        Value::Text(bytes) => Some(Some(text(bytes, encoding))),
        Value::Null => Some(None),
        _ => None,
    };
    let (kind, name, table) = (word()??, word()??, word()??);
    let root = match fields.next()? {
        Value::Integer(root) => u32::try_from(root).ok()?,
        Value::Null => 0,
        _ => return None,
    };
    let sql = match fields.next()? {
        Value::Text(bytes) => Some(text(bytes, encoding)),
        Value::Null => None,
        _ => return None,
    };
    let kind = match kind.as_str() {
        "table" if root == 0 => ObjectKind::VirtualTable,
        "table" => ObjectKind::Table,
        "index" => ObjectKind::Index,
        "view" => ObjectKind::View,
        "trigger" => ObjectKind::Trigger,
        _ => return None,
    };
    Some(Object { kind, name, table, root, sql, table_shape: None, index_shape: None })
}
