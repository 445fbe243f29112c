//! A database, and its log behind a line, of bytes that nobody has made for it.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

#[path = "reader.rs"]
mod reader;

/// What divides the two: no number of either file.
const LOG: &[u8] = b"\n--log--\n";

static PLACE: OnceLock<reader::Place> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let place = PLACE.get_or_init(reader::Place::new);
    let at = data.windows(LOG.len()).position(|window| window == LOG);
    let (database, log) = at.map_or((data, &[][..]), |at| (&data[..at], &data[at + LOG.len()..]));
    place.write("", database);
    place.write("-wal", log);
    let _damaged = reader::read(&place.path(""), &place.cancel);
});
