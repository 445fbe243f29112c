//! The generated databases: a media library's shape, several tables and 29 indices, the same bytes for the same size.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Statement, Transaction, params};

use crate::Outcome;

/// Change it with the schema: databases of another version are generated anew.
const VERSION: u32 = 1;

/// Bytes of database per item and what belongs to it, indices included; the size comes out within some percent.
const BYTES_PER_ITEM: u64 = 2_110;

const TABLES: &str = "
CREATE TABLE items(id INTEGER PRIMARY KEY, guid TEXT, section INTEGER, parent INTEGER, kind INTEGER, title TEXT,
  title_sort TEXT, year INTEGER, rating REAL, added INTEGER, updated INTEGER, summary TEXT, hash TEXT);
CREATE TABLE parts(id INTEGER PRIMARY KEY, item INTEGER REFERENCES items(id), file TEXT, directory INTEGER,
  hash TEXT, size INTEGER, duration INTEGER, created INTEGER, extra TEXT);
CREATE TABLE streams(id INTEGER PRIMARY KEY, part INTEGER REFERENCES parts(id), kind INTEGER, codec TEXT,
  language TEXT, position INTEGER, bitrate INTEGER, extra TEXT);
CREATE TABLE taggings(id INTEGER PRIMARY KEY, item INTEGER REFERENCES items(id), tag INTEGER, position INTEGER,
  role TEXT, created INTEGER);
CREATE TABLE views(id INTEGER PRIMARY KEY, account INTEGER, guid TEXT, item INTEGER, viewed INTEGER, device INTEGER,
  title TEXT);";

/// Table and columns of each of the 29 indices.
const INDICES: [(&str, &str); 29] = [
    ("items", "guid"),
    ("items", "section, kind, title_sort"),
    ("items", "parent"),
    ("items", "title"),
    ("items", "year"),
    ("items", "rating"),
    ("items", "added"),
    ("items", "updated"),
    ("items", "hash"),
    ("parts", "item"),
    ("parts", "file"),
    ("parts", "directory"),
    ("parts", "hash"),
    ("parts", "size"),
    ("parts", "created"),
    ("streams", "part"),
    ("streams", "codec"),
    ("streams", "language"),
    ("streams", "kind, position"),
    ("streams", "bitrate"),
    ("taggings", "item"),
    ("taggings", "tag"),
    ("taggings", "tag, item"),
    ("taggings", "created"),
    ("views", "account"),
    ("views", "guid"),
    ("views", "item"),
    ("views", "viewed"),
    ("views", "device, viewed"),
];

const WORDS: [&str; 48] = [
    "north", "river", "the", "of", "a", "silent", "house", "winter", "and", "brother", "last", "train", "city",
    "after", "before", "night", "glass", "garden", "in", "road", "stone", "letter", "island", "captain", "to",
    "summer", "old", "bridge", "signal", "under", "with", "field", "harbour", "clock", "paper", "from", "small",
    "engine", "market", "mountain", "who", "returns", "finds", "morning", "family", "secret", "storm", "light",
];

/// The database of this size, generated where it is not there yet. It is in WAL mode, and complete in one file.
pub(crate) fn database(dir: &Path, size: u64) -> Outcome<PathBuf> {
    let path = dir.join(format!("library-{}M-v{VERSION}.db", size / 1_000_000));
    if path.is_file() {
        return Ok(path);
    }
    std::fs::create_dir_all(dir)?;
    eprintln!("generating {}", path.display());
    let partial = path.with_extension("partial");
    if partial.exists() {
        std::fs::remove_file(&partial)?;
    }
    let mut connection = Connection::open(&partial)?;
    connection.execute_batch(
        "PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; \
         PRAGMA cache_size=-200000; PRAGMA temp_store=MEMORY;",
    )?;
    connection.execute_batch(TABLES)?;
    let transaction = connection.transaction()?;
    let mut random = Random(size);
    let mut inserts = Inserts::prepare(&transaction)?;
    for id in 1..=size / BYTES_PER_ITEM {
        item(&mut inserts, i64::try_from(id)?, &mut random)?;
    }
    drop(inserts);
    transaction.commit()?;
    for (number, (table, columns)) in INDICES.iter().enumerate() {
        connection.execute_batch(&format!("CREATE INDEX index_{number}_on_{table} ON {table}({columns})"))?;
    }
    connection.execute_batch("PRAGMA locking_mode=NORMAL; PRAGMA journal_mode=WAL;")?;
    connection.close().map_err(|(_, error)| error)?;
    std::fs::rename(&partial, &path)?;
    Ok(path)
}

/// A prepared statement per table.
struct Inserts<'a> {
    items: Statement<'a>,
    parts: Statement<'a>,
    streams: Statement<'a>,
    taggings: Statement<'a>,
    views: Statement<'a>,
}

impl<'a> Inserts<'a> {
    fn prepare(transaction: &'a Transaction<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            items: transaction.prepare("INSERT INTO items VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)")?,
            parts: transaction.prepare("INSERT INTO parts VALUES(?,?,?,?,?,?,?,?,?)")?,
            streams: transaction.prepare("INSERT INTO streams VALUES(?,?,?,?,?,?,?,?)")?,
            taggings: transaction.prepare("INSERT INTO taggings VALUES(?,?,?,?,?,?)")?,
            views: transaction.prepare("INSERT INTO views VALUES(?,?,?,?,?,?,?)")?,
        })
    }
}

/// One item with its parts, streams, taggings and views.
fn item(inserts: &mut Inserts<'_>, id: i64, random: &mut Random) -> Outcome<()> {
    let title = random.words(4);
    let guid = format!("library://item/{}", random.hex());
    let added = 1_500_000_000 + id * 17 + random.below(1000);
    inserts.items.execute(params![
        id,
        guid,
        random.below(6),
        id - random.below(40),
        random.below(12),
        title,
        title.trim_start_matches("the "),
        1950 + random.below(75),
        random.below(100) as f64 / 10.0,
        added,
        added + random.below(90_000_000),
        random.words(60),
        random.hex(),
    ])?;
    let part = id;
    inserts.parts.execute(params![
        part,
        id,
        format!("/media/library/{}/{title}.mkv", random.words(2)),
        random.below(20_000),
        random.hex(),
        random.below(9_000_000_000),
        random.below(8_000_000),
        added,
        random.words(20),
    ])?;
    for position in 0..3 {
        inserts.streams.execute(params![
            part * 3 + position,
            part,
            position,
            ["h264", "hevc", "aac", "ac3", "srt"][usize::try_from(random.below(5))?],
            ["en", "de", "fr", "ja", ""][usize::try_from(random.below(5))?],
            position,
            random.below(20_000),
            random.words(12),
        ])?;
        inserts.taggings.execute(params![
            id * 3 + position,
            id,
            random.below(60_000),
            position,
            random.words(2),
            added + position,
        ])?;
    }
    inserts.views.execute(params![
        id,
        random.below(30),
        guid,
        id,
        added + random.below(9_000_000),
        random.below(300),
        title,
    ])?;
    Ok(())
}

/// Removes what [`database`] made; other files in the directory stay.
pub(crate) fn clean(dir: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("library-") && path.is_file() {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// SplitMix64: a few lines, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: i64) -> i64 {
        // Below 2^63, so it fits.
        i64::try_from(self.next() >> 1).unwrap_or(0) % end
    }

    fn words(&mut self, count: usize) -> String {
        let mut text = String::new();
        for number in 0..count {
            if number > 0 {
                text.push(' ');
            }
            text.push_str(WORDS[usize::try_from(self.below(WORDS.len() as i64)).unwrap_or(0)]);
        }
        text
    }

    fn hex(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..2 {
            text.push_str(&format!("{:016x}", self.next()));
        }
        text
    }
}
