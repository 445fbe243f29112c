//! The demonstration, run for real: what it claims is what its figures say, and it leaves nothing behind.

mod support;

use support::Place;

#[test]
fn every_acknowledged_row_is_in_the_restored_copy_and_nothing_is_left_behind() {
    let place = Place::new();
    let said = place.backup(&["demo", "--size", "4", "--json"]);
    let rows: Vec<serde_json::Value> =
        said.succeeds().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let modes: Vec<Option<&str>> = rows.iter().map(|row| row["mode"].as_str()).collect();
    assert_eq!(modes, [None, Some("hot"), Some("fenced"), Some("cold")]);
    for row in &rows[1..] {
        assert!(row["acknowledged"].as_u64().unwrap() > 0, "{row}");
        assert_eq!(row["acknowledged"], row["restored"], "{row}");
        assert_eq!(row["downtime_ms"].is_f64(), row["mode"] == "cold", "{row}");
    }
    let left: Vec<_> = std::fs::read_dir(place.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("demo")), "{left:?}");
    let root = place.path(".");
    let runs = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|process| {
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains("demo-service") && words.contains(root.to_string_lossy().trim_end_matches("/."))
    });
    assert!(!runs, "its service still runs");
}
