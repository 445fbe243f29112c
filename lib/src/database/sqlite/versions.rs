//! What SQLite's own check says of a whole index only because another version of SQLite filled it.
//!
//! How a real is written as text has changed: 15 digits for long, and as many as it takes to have the same real again since
//! then. So an index on an expression, or on a generated column that is not stored, which makes text of reals (`v || ''`,
//! `length(v)`), has other entries by the version that wrote it, and to any other one their rows are missing from it. For
//! the service's own version it is whole; built anew here, it would be damaged to that.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

/// Where the header has the version that wrote last (fileformat2.html, 1.3.13).
const VERSION: u64 = 96;

/// Whether a line of integrity_check on `copy` can be that, and then what is told in its place. A row without any real, or
/// a database that this version wrote last, proves the opposite.
pub(super) fn explained(connection: &Connection, copy: &Path, line: &str) -> rusqlite::Result<Option<String>> {
    let Some((row, index)) = parse(line).filter(|_| is_of_another_version(copy)) else { return Ok(None) };
    let sql = "SELECT i.tbl_name, t.wr FROM sqlite_schema i JOIN pragma_table_list t ON t.name = i.tbl_name AND t.schema = 'main'
        WHERE i.type = 'index' AND i.name = ?1";
    let found =
        connection.query_row(sql, [index], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?))).optional()?;
    let Some((table, without_rowid)) = found else { return Ok(None) };
    let computed = "SELECT count(*) FROM pragma_index_xinfo(?1) x LEFT JOIN pragma_table_xinfo(?2) c ON c.cid = x.cid
        WHERE x.key AND (x.cid = -2 OR c.hidden = 2)";
    let computed: i64 = connection.query_row(computed, [index, table.as_str()], |row| row.get(0))?;
    if computed == 0 {
        return Ok(None);
    }
    let mut columns = connection.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0")?;
    let columns = columns.query_map([table.as_str()], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let is_real =
        columns.iter().map(|name| format!("typeof({}) = 'real'", quoted(name))).collect::<Vec<_>>().join(" OR ");
    // Of a table without rowids the number is that of a row on the way, and names none.
    let which = if without_rowid { String::new() } else { format!("rowid = {row} AND ") };
    let sql = format!("SELECT EXISTS(SELECT 1 FROM {} WHERE {which}({is_real}))", quoted(&table));
    let has_reals: bool = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok(has_reals.then(|| {
        format!("index {index}: it computes with reals, which versions of SQLite write as text in different ways")
    }))
}

/// The row and the index of `row 7 missing from index i`.
fn parse(line: &str) -> Option<(i64, &str)> {
    let (row, index) = line.strip_prefix("row ")?.split_once(" missing from index ")?;
    Some((row.parse().ok()?, index))
}

fn is_of_another_version(copy: &Path) -> bool {
    let mut version = [0; 4];
    let read = File::open(copy).and_then(|file| file.read_exact_at(&mut version, VERSION));
    // A number of 3,040,001 is 3.40.1: what is written changes with the second part.
    read.is_ok() && u32::from_be_bytes(version) / 1000 != rusqlite::version_number().unsigned_abs() / 1000
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::sqlite::{deep, validate};
    use crate::progress::{Cancel, Silent};

    /// A database in whose third row a value was changed by one bit; the index has what was there before.
    fn with_one_bit(column: &str, value: &[u8], version: Option<u32>) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = Connection::open(&path).unwrap();
        let sql = format!(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE INDEX i ON t({column});
             INSERT INTO t VALUES(1, 'a'), (2, 'b'), (3, 0.3), (4, 'some text')"
        );
        connection.execute_batch(&sql).unwrap();
        connection.close().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        // The rows lie on page 2, and the index behind them.
        let at = bytes.windows(value.len()).position(|window| window == value).unwrap();
        assert!((4096..8192).contains(&at));
        bytes[at + value.len() - 1] ^= 1;
        if let Some(version) = version {
            bytes[96..100].copy_from_slice(&version.to_be_bytes());
        }
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    #[test]
    fn an_index_that_another_version_filled_with_reals_as_text_is_not_judged() {
        let cancel = Cancel::new().unwrap();
        let real = 0.3_f64.to_be_bytes();
        for (column, value, version, judged) in [
            ("v || ''", &real[..], Some(3_040_001), false),
            ("v || ''", &real[..], None, true),
            // No real is in the row, or nothing is computed.
            ("v || ''", b"some text", Some(3_040_001), true),
            ("v", &real[..], Some(3_040_001), true),
        ] {
            let (_dir, path) = with_one_bit(column, value, version);
            let report = deep(&path, &cancel, &Silent).unwrap();
            let validated = validate(&path, &cancel, &Silent);
            assert_eq!(report.is_damaged(), judged, "{column} {version:?}: {report:?}");
            if judged {
                validated.unwrap_err();
                continue;
            }
            let validated = validated.unwrap();
            assert!(!validated.rungs.contains(&"integrity".to_owned()), "it is not called proved");
            assert!(report.not_judged[0].starts_with("index i: "), "{report:?}");
            assert_eq!(validated.facts.without, report.not_judged);
        }
    }
}
