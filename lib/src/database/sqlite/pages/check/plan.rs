//! What of each b-tree is to be judged, by its definition.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::super::collate::KeyColumn;
use super::super::header::Encoding;
use super::super::record::Serial;
use super::super::schema::{ObjectKind, Schema};
use super::super::shape::{IndexField, IndexShape, TableShape};
use super::default::default_hash;
use super::known::{KNOWN_MAX, Known};
use super::report::{Loss, NotChecked};

/// Tables of SQLite's own, whose rows begin with the name of a table (fileformat2.html, 2.6.2 and 2.6.3).
const NAMED: [&str; 2] = ["sqlite_sequence", "sqlite_stat1"];

/// Why a partial index is not all judged.
const PARTIAL: &str = "a partial index: whether it has all the rows that it must is not checked";

/// One b-tree, and what was seen of it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) name: String,
    pub(super) kind: ObjectKind,
    /// The table that it belongs to.
    pub(super) table: String,
    pub(super) root: u32,
    /// Keyed by rowid; `None` where the definition does not tell: as the root page says.
    pub(super) by_rowid: Option<bool>,
    pub(super) rows: Option<RowPlan>,
    pub(super) key: Option<KeyPlan>,
    /// For an index that is compared: its table's tree, and its place among the sums there.
    pub(super) compared_with: Option<(usize, usize)>,
    /// For a partial index: the same, of which every entry must be one.
    pub(super) partial_of: Option<(usize, usize)>,
    /// How deep the leaves are; 0 before the first was seen.
    pub(super) leaf_depth: AtomicUsize,
    pub(super) pages: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) sum: AtomicU64,
    pub(super) faults: AtomicU64,
    /// Something in it could not be added to the sums.
    pub(super) unsummed: AtomicU64,
    /// Pairs of keys whose order can't be known, since a text in them is not UTF-16.
    pub(super) not_ordered: AtomicU64,
}

/// What is judged of the rows of a table.
#[derive(Debug, Default)]
pub(super) struct RowPlan {
    /// The fields that must not be NULL, with the names of their columns.
    pub(super) not_null: Vec<(usize, String)>,
    /// What the values of a STRICT table must be, with the names of their columns.
    pub(super) types: Vec<(usize, StrictType, String)>,
    /// The first field is text in every row that SQLite itself has written.
    pub(super) is_named: bool,
    /// Which fields are hashed; as long as the last one that is.
    pub(super) hashed: Vec<bool>,
    /// What stands for each of them in rows that are too short for it; `None` where it can't be known.
    pub(super) defaults: Vec<Option<u64>>,
    /// The indices.
    pub(super) sums: Vec<IndexSum>,
}

/// A declared type of a STRICT table (stricttables.html) that not every value has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StrictType {
    Integer,
    Real,
    Text,
    Blob,
}

impl StrictType {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "INT" | "INTEGER" => Some(Self::Integer),
            "REAL" => Some(Self::Real),
            "TEXT" => Some(Self::Text),
            "BLOB" => Some(Self::Blob),
            _ => None,
        }
    }

    /// Whether a value may be stored so. A real without a fraction is stored as an integer.
    pub(super) fn takes(self, serial: Serial) -> bool {
        serial.is_null()
            || match self {
                Self::Integer => serial.is_integer(),
                Self::Real => serial.is_integer() || serial.is_real(),
                Self::Text => serial.is_text(),
                Self::Blob => serial.is_blob(),
            }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Integer => "an integer",
            Self::Real => "a number",
            Self::Text => "text",
            Self::Blob => "a blob",
        }
    }
}

/// The sum that an index must have.
#[derive(Debug)]
pub(super) struct IndexSum {
    pub(super) places: Vec<Place>,
    pub(super) sum: AtomicU64,
    /// Of a partial index: what its entries may be.
    pub(super) known: Option<Known>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Field(usize),
    Rowid,
}

/// What is judged of the keys of an index, or of a table without rowid.
#[derive(Debug)]
pub(super) struct KeyPlan {
    pub(super) key: Vec<KeyColumn>,
    pub(super) unique: Option<usize>,
    /// The fields of a record; `None` for a table, whose records may be short.
    pub(super) fields: Option<usize>,
}

impl Tree {
    fn new(name: &str, kind: ObjectKind, table: &str, root: u32) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            table: table.to_owned(),
            root,
            by_rowid: None,
            rows: None,
            key: None,
            compared_with: None,
            partial_of: None,
            leaf_depth: AtomicUsize::new(0),
            pages: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            unsummed: AtomicU64::new(0),
            not_ordered: AtomicU64::new(0),
        }
    }

    /// What is lost with a page of it.
    pub(super) fn loss(&self) -> Loss {
        if self.kind == ObjectKind::Index { Loss::Index } else { Loss::Rows }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.faults.load(Ordering::Relaxed) == 0
    }
}

/// Prepares what the entries of partial indices are compared with: all of them together take bounded memory. `rows`: no
/// table has more.
pub(super) fn know_partial(trees: &mut [Tree], rows: u64) {
    let of_all: Vec<(usize, usize)> = trees.iter().filter_map(|tree| tree.partial_of).collect();
    let most = (KNOWN_MAX / (of_all.len() as u64).max(1)).checked_next_power_of_two().unwrap_or(0) / 2;
    for (table, number) in of_all {
        let plan = trees.get_mut(table).and_then(|tree| tree.rows.as_mut());
        if let Some(sum) = plan.and_then(|plan| plan.sums.get_mut(number)) {
            sum.known = Some(Known::new(rows, most));
        }
    }
}

/// The trees of a schema, the schema's own first.
pub(super) fn trees(schema: &Schema, encoding: Encoding, skipped: &mut Vec<NotChecked>) -> Vec<Tree> {
    let mut skip = |object: &str, why: &str| {
        skipped.push(NotChecked { object: object.to_owned(), why: why.to_owned() });
    };
    let mut own = Tree::new("sqlite_schema", ObjectKind::Table, "sqlite_schema", 1);
    own.by_rowid = Some(true);
    own.rows = Some(RowPlan::default());
    let mut trees = vec![own];
    let mut tables: HashMap<String, (usize, &TableShape)> = HashMap::new();
    for object in &schema.objects {
        match object.kind {
            ObjectKind::Table => {
                let mut tree = Tree::new(&object.name, object.kind, &object.name, object.root);
                match &object.table_shape {
                    Some(shape) => {
                        tree.by_rowid = Some(!shape.without_rowid);
                        let is_named = NAMED.contains(&object.name.as_str());
                        tree.rows = Some(RowPlan { is_named, ..row_plan(shape, encoding) });
                        if shape.without_rowid && !shape.doubtful {
                            let unique = Some(shape.key.len());
                            tree.key = Some(KeyPlan { key: shape.key.clone(), unique, fields: None });
                        }
                        tables.insert(object.name.to_ascii_lowercase(), (trees.len(), shape));
                        if shape.doubtful {
                            skip(
                                &object.name,
                                "a part of its definition is not understood: NOT NULL and order of keys",
                            );
                        }
                    }
                    None => skip(&object.name, "its definition is not understood: only its pages were checked"),
                }
                trees.push(tree);
            }
            ObjectKind::VirtualTable => {
                skip(&object.name, "a virtual table: only SQLite knows what its shadow tables must hold");
            }
            _ => {}
        }
    }
    for object in schema.objects.iter().filter(|object| object.kind == ObjectKind::Index) {
        let mut tree = Tree::new(&object.name, object.kind, &object.table, object.root);
        tree.by_rowid = Some(false);
        let table = tables.get(&object.table.to_ascii_lowercase());
        match (&object.index_shape, table) {
            (Some(shape), Some((table, table_shape))) if !table_shape.doubtful => {
                let fields = Some(shape.fields.len());
                tree.key = Some(KeyPlan { key: shape.key.clone(), unique: shape.unique, fields });
                match places(shape, table_shape) {
                    Ok(places) => {
                        if let Some(rows) = trees.get_mut(*table).and_then(|tree| tree.rows.as_mut()) {
                            let place = Some((*table, rows.sums.len()));
                            if shape.partial {
                                tree.partial_of = place;
                                skip(&object.name, PARTIAL);
                            } else {
                                tree.compared_with = place;
                            }
                            add_sum(rows, places);
                        }
                    }
                    Err(why) => skip(&object.name, why),
                }
            }
            _ => skip(&object.name, "its definition or its table's is not understood: only its pages were checked"),
        }
        trees.push(tree);
    }
    trees
}

fn row_plan(shape: &TableShape, encoding: Encoding) -> RowPlan {
    let mut plan = RowPlan::default();
    for (place, column) in shape.stored.iter().enumerate() {
        let definition = &shape.columns[*column];
        if definition.not_null && shape.rowid_alias != Some(*column) && !shape.doubtful {
            plan.not_null.push((place, definition.name.clone()));
        }
        if shape.strict
            && !shape.doubtful
            && let Some(declared) = StrictType::named(&definition.type_name)
        {
            plan.types.push((place, declared, definition.name.clone()));
        }
        plan.defaults.push(default_hash(definition, encoding));
    }
    plan
}

fn add_sum(rows: &mut RowPlan, places: Vec<Place>) {
    for place in &places {
        if let Place::Field(field) = *place {
            if rows.hashed.len() <= field {
                rows.hashed.resize(field + 1, false);
            }
            rows.hashed[field] = true;
        }
    }
    rows.sums.push(IndexSum { places, sum: AtomicU64::new(0), known: None });
}

/// Where in a table's record the fields of an index's record are.
fn places(index: &IndexShape, table: &TableShape) -> Result<Vec<Place>, &'static str> {
    let places = index.fields.iter().map(|field| match field {
        IndexField::Rowid => Ok(Place::Rowid),
        IndexField::Computed => Err("an index on an expression: not compared with its table"),
        IndexField::Column(column) => {
            table.place_of(*column).map(Place::Field).ok_or("it is on a column that is not stored")
        }
    });
    places.collect()
}
