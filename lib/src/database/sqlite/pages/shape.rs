//! What the rows of a table and the keys of an index consist of (fileformat2.html, 2.3 to 2.5).

use super::collate::{Collation, KeyColumn};
use super::create::{self, ColumnSql, Constraint, Term};

/// One column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its declared type; may be empty.
    pub type_name: String,
    /// How its text is compared by default.
    pub collation: Collation,
    /// Whether it is declared NOT NULL, by itself or as a primary key of a table without rowid.
    pub not_null: bool,
    /// Whether it is generated, stored or not.
    pub is_generated: bool,
    /// Whether it is generated and not stored.
    pub is_virtual: bool,
    /// What rows have that are older than the column.
    pub(super) default: super::create::DefaultSql,
}

/// A table as its definition has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TableShape {
    /// The columns, in the order of the definition.
    pub columns: Vec<Column>,
    /// Which columns a record has, in its order. A record may end before the last of them: the others have their
    /// column's default then, having been added later.
    pub stored: Vec<usize>,
    /// The column that is another name for the rowid; its field in the record is NULL.
    pub rowid_alias: Option<usize>,
    /// Whether the rows are in an index b-tree, keyed by their primary key.
    pub without_rowid: bool,
    /// Whether every column has values of its declared type only.
    pub strict: bool,
    /// The key of such a b-tree; empty otherwise.
    pub key: Vec<KeyColumn>,
    /// A part of the definition was not understood: nothing but the pages can be judged by it.
    pub doubtful: bool,
    /// The columns of the primary key, without repetition, with their collations; for tables without rowid.
    primary: Vec<(usize, Collation)>,
    /// The keys of `sqlite_autoindex_NAME_1`, `_2`, ...
    automatic: Vec<Vec<(usize, KeyColumn)>>,
    /// Which of them is the table itself, without rowid: it has no row in the schema.
    is_the_table: Option<usize>,
}

/// A field of an index's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexField {
    /// A column of the table, by its place in the definition.
    Column(usize),
    /// The rowid.
    Rowid,
    /// An expression, or a column that is not stored: its value can't be known here.
    Computed,
}

/// An index as its definition and its table's have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexShape {
    /// The fields of its records: the columns named, then what tells rows apart.
    pub fields: Vec<IndexField>,
    /// The order of its records.
    pub key: Vec<KeyColumn>,
    /// How many leading fields are unique together, if so.
    pub unique: Option<usize>,
    /// Whether it has only those rows that a condition chooses.
    pub partial: bool,
}

const BINARY: KeyColumn = KeyColumn { collation: Collation::Binary, descending: false };

impl TableShape {
    /// `descending`: whether the schema's format has descending keys.
    pub(super) fn of(sql: &str, descending: bool) -> Option<Self> {
        let table = create::table(sql)?;
        let mut columns: Vec<Column> = table.columns.iter().map(column).collect();
        let mut doubtful = table.doubtful;
        let (mut rowid_alias, mut primary, mut is_the_table) = (None, None, None);
        let mut automatic: Vec<Vec<(usize, KeyColumn)>> = Vec::new();
        let mut late: Option<Vec<(usize, KeyColumn)>> = None;
        for constraint in &table.constraints {
            let Some(key) = key_of(&constraint.terms, &columns, descending) else {
                doubtful = true;
                continue;
            };
            if constraint.primary && is_rowid(constraint, &key, &columns) {
                rowid_alias = key.first().map(|(column, _)| *column);
                // Its own COLLATE is forgotten on the way (sqlite3AddPrimaryKey).
                late = Some(
                    key.iter().map(|(c, how)| (*c, KeyColumn { collation: columns[*c].collation, ..*how })).collect(),
                );
                continue;
            }
            // A constraint that says the same as one before it has no index of its own, whatever its direction.
            let at = automatic.iter().position(|other| same_key(other, &key)).unwrap_or_else(|| {
                automatic.push(key);
                automatic.len() - 1
            });
            if constraint.primary {
                (primary, is_the_table) = (automatic.get(at).cloned(), Some(at));
            }
        }
        if table.without_rowid {
            rowid_alias = None;
            if let Some(late) = late.filter(|_| primary.is_none()) {
                is_the_table = automatic.iter().position(|other| same_key(other, &late));
                primary = is_the_table.and_then(|at| automatic.get(at).cloned()).or(Some(late));
            }
        }
        let primary = primary.filter(|_| table.without_rowid).unwrap_or_default();
        doubtful |= table.without_rowid && primary.is_empty();
        let keyed = distinct(&primary);
        for (column, _) in &keyed {
            columns[*column].not_null = true;
        }
        let mut stored: Vec<usize> = keyed.iter().map(|(column, _)| *column).collect();
        stored.extend((0..columns.len()).filter(|c| !columns[*c].is_virtual && !keyed.iter().any(|(k, _)| k == c)));
        Some(Self {
            stored,
            rowid_alias,
            without_rowid: table.without_rowid,
            strict: table.strict,
            key: keyed.iter().map(|(_, how)| *how).collect(),
            primary: keyed.iter().map(|(column, how)| (*column, how.collation)).collect(),
            doubtful,
            automatic,
            is_the_table: is_the_table.filter(|_| table.without_rowid),
            columns,
        })
    }

    /// The numbers of the automatic indices that have a row in the schema: the primary key of a table without rowid is the
    /// table itself.
    pub(super) fn automatic_with_a_tree(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.automatic.len()).filter(|at| Some(*at) != self.is_the_table).map(|at| at + 1)
    }

    /// The place of a column in the record.
    #[must_use]
    pub fn place_of(&self, column: usize) -> Option<usize> {
        self.stored.iter().position(|stored| *stored == column)
    }
}

impl IndexShape {
    pub(super) fn of(name: &str, sql: Option<&str>, table: &TableShape, descending: bool) -> Option<Self> {
        let (mut fields, mut key, unique, partial) = match sql {
            Some(sql) => {
                let index = create::index(sql)?;
                let (fields, key): (Vec<_>, Vec<_>) =
                    index.terms.iter().map(|term| field_of(term, table, descending)).unzip();
                (fields, key, index.unique, index.partial)
            }
            None => {
                let number: usize = name.rsplit('_').next()?.parse().ok()?;
                let key = table.automatic.get(number.checked_sub(1)?)?;
                let (fields, key) = key.iter().map(|(column, how)| (IndexField::Column(*column), *how)).unzip();
                (fields, key, true, false)
            }
        };
        for field in &mut fields {
            if let IndexField::Column(column) = *field {
                if table.rowid_alias == Some(column) {
                    *field = IndexField::Rowid;
                } else if table.columns[column].is_virtual {
                    *field = IndexField::Computed;
                }
            }
        }
        let unique = unique.then_some(fields.len());
        if table.without_rowid {
            for ((column, collation), own) in table.primary.iter().zip(&table.key) {
                let named = fields.iter().zip(&key);
                if !named.clone().any(|(f, k)| *f == IndexField::Column(*column) && k.collation == *collation) {
                    fields.push(IndexField::Column(*column));
                    // Those of an index that came with the table ascend always (bAscKeyBug in SQLite's source).
                    key.push(KeyColumn { collation: *collation, descending: sql.is_some() && own.descending });
                }
            }
        } else {
            fields.push(IndexField::Rowid);
            key.push(BINARY);
        }
        Some(Self { fields, key, unique, partial })
    }
}

fn column(sql: &ColumnSql) -> Column {
    Column {
        name: sql.name.clone(),
        type_name: sql.type_name.clone(),
        collation: sql.collation.as_deref().map_or(Collation::Binary, Collation::named),
        not_null: sql.not_null,
        is_generated: sql.generated.is_some(),
        is_virtual: sql.generated == Some(false),
        default: sql.default.clone(),
    }
}

/// Whether a primary key is another name for the rowid (lang_createtable.html, 5): the quirk of DESC is SQLite's.
fn is_rowid(constraint: &Constraint, key: &[(usize, KeyColumn)], columns: &[Column]) -> bool {
    let [(column, _)] = key else {
        return false;
    };
    let backwards = constraint.of_column && constraint.terms.iter().any(|term| term.descending);
    columns[*column].type_name.eq_ignore_ascii_case("integer") && !backwards
}

/// A key without the columns that it names again in the same order: the b-tree has them once.
fn distinct(key: &[(usize, KeyColumn)]) -> Vec<(usize, KeyColumn)> {
    let mut once: Vec<(usize, KeyColumn)> = Vec::new();
    for (column, how) in key {
        if !once.iter().any(|(other, o)| other == column && o.collation == how.collation) {
            once.push((*column, *how));
        }
    }
    once
}

fn same_key(a: &[(usize, KeyColumn)], b: &[(usize, KeyColumn)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.collation == b.1.collation)
}

fn find(name: &str, columns: &[Column]) -> Option<usize> {
    columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
}

fn how(term: &Term, column: &Column, descending: bool) -> KeyColumn {
    let collation = term.collation.as_deref().map_or(column.collation, Collation::named);
    KeyColumn { collation, descending: term.descending && descending }
}

fn key_of(terms: &[Term], columns: &[Column], descending: bool) -> Option<Vec<(usize, KeyColumn)>> {
    let key = terms.iter().map(|term| {
        let column = find(term.column.as_deref()?, columns)?;
        Some((column, how(term, &columns[column], descending)))
    });
    key.collect()
}

fn field_of(term: &Term, table: &TableShape, descending: bool) -> (IndexField, KeyColumn) {
    let name = term.column.as_deref().unwrap_or_default();
    match find(name, &table.columns) {
        Some(column) if term.column.is_some() => {
            (IndexField::Column(column), how(term, &table.columns[column], descending))
        }
        // The collation of an expression is that of its first column: not worth knowing here.
        _ => {
            let collation = term.collation.as_deref().map_or(Collation::Unknown, Collation::named);
            (IndexField::Computed, KeyColumn { collation, descending: term.descending && descending })
        }
    }
}
