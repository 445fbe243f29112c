//! The tables of `influx query --raw`: CSV with annotations, a blank line between tables of several kinds.
//!
//! A query that fails in its middle ends with a table of its own, which says why; the client's exit code does not.

/// A row, by the names of its columns.
pub(super) type Row = Vec<(String, String)>;

/// What of a row is of no interest: which answer and which table it is of, and the name of an annotation.
const OWN: &[&str] = &["", "result", "table"];

/// The rows of all tables; else why the query failed.
pub(super) fn rows(text: &str) -> Result<Vec<Row>, String> {
    let (mut header, mut found): (Option<Vec<String>>, Vec<Row>) = (None, Vec::new());
    for record in records(text)? {
        let first = record.first().map(String::as_str).unwrap_or_default();
        if record.iter().all(String::is_empty) || first.starts_with('#') {
            // Another table follows.
            header = None;
            continue;
        }
        let Some(names) = &header else {
            header = Some(record);
            continue;
        };
        if names.len() != record.len() {
            return Err("its answer has a row with another number of columns".to_owned());
        }
        if let Some(at) = names.iter().position(|name| name == "error")
            && names.iter().any(|name| name == "reference")
        {
            return Err(record.get(at).cloned().unwrap_or_default());
        }
        let row = names.iter().cloned().zip(record);
        found.push(row.filter(|(name, _)| !OWN.contains(&name.as_str())).collect());
    }
    Ok(found)
}

/// Its lines, as fields; in quotes a field may have commas, quotes (twice) and ends of lines.
fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut all, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => record.push(std::mem::take(&mut field)),
            '\r' if !is_quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !is_quoted => {
                record.push(std::mem::take(&mut field));
                all.push(std::mem::take(&mut record));
            }
            other => field.push(other),
        }
    }
    if is_quoted {
        return Err("its answer ends in the middle".to_owned());
    }
    if !field.is_empty() || !record.is_empty() {
        record.push(field);
        all.push(record);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: &str = "#group,false,false,true,false\r\n#datatype,string,long,string,long\r\n#default,_result,,,\r\n\
        ,result,table,_measurement,_value\r\n,,0,cpu,7\r\n,,1,\"a \"\"b\"\", c\",8\r\n\r\n\
        #group,false,false\r\n#datatype,string,long\r\n#default,_result,\r\n,result,_value\r\n,,9\r\n\r\n";

    #[test]
    fn tables_are_read_with_the_names_of_their_own_columns() {
        let row = |fields: &[(&str, &str)]| -> Row {
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let expected = [
            row(&[("_measurement", "cpu"), ("_value", "7")]),
            row(&[("_measurement", "a \"b\", c"), ("_value", "8")]),
            row(&[("_value", "9")]),
        ];
        assert_eq!(rows(COUNTS), Ok(expected.to_vec()));
        assert_eq!(rows(""), Ok(Vec::new()));
        assert_eq!(rows("\r\n"), Ok(Vec::new()));
    }

    #[test]
    fn a_query_that_failed_on_the_way_is_no_answer() {
        let failed = format!("{COUNTS}#datatype,string,string\r\n,error,reference\r\n,panic: runtime error,897\r\n");
        assert_eq!(rows(&failed), Err("panic: runtime error".to_owned()));
        assert!(rows(",a,b\n,1\n").is_err(), "a row that is cut");
        assert!(rows(",a\n,\"1\n").is_err(), "a field that is cut");
        for end in (0..COUNTS.len()).filter(|end| COUNTS.is_char_boundary(*end)) {
            let _whatever = rows(&COUNTS[..end]);
        }
    }
}
