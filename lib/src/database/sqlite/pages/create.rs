//! CREATE TABLE and CREATE INDEX as they stand in the schema (lang_createtable.html, lang_createindex.html).
//!
//! Tolerant: what is not understood makes the definition *doubtful*, and nothing is judged by it then.

use super::cursor::Cursor;
use super::sql::{Token, tokens};

/// One column of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ColumnSql {
    pub(super) name: String,
    pub(super) type_name: String,
    pub(super) collation: Option<String>,
    pub(super) not_null: bool,
    /// A generated column, and whether it is stored.
    pub(super) generated: Option<bool>,
    pub(super) default: DefaultSql,
}

/// What a row has that was written before the column was added.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DefaultSql {
    Null,
    /// A literal, with the sign before a number.
    Literal(bool, Token),
    Unknown,
}

/// A column of an index or of a constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    /// `None`: an expression.
    pub(super) column: Option<String>,
    pub(super) collation: Option<String>,
    pub(super) descending: bool,
}

/// PRIMARY KEY or UNIQUE, in the order in which they stand: that of the numbers of the automatic indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Constraint {
    pub(super) primary: bool,
    /// Written with a column, not with the table.
    pub(super) of_column: bool,
    pub(super) terms: Vec<Term>,
}

/// A table's definition.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct TableSql {
    pub(super) columns: Vec<ColumnSql>,
    pub(super) constraints: Vec<Constraint>,
    pub(super) without_rowid: bool,
    pub(super) strict: bool,
    pub(super) doubtful: bool,
}

/// An index's definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IndexSql {
    pub(super) unique: bool,
    pub(super) terms: Vec<Term>,
    pub(super) partial: bool,
}

/// Reads a CREATE TABLE; `None` for anything else, virtual tables included.
pub(super) fn table(sql: &str) -> Option<TableSql> {
    let tokens = tokens(sql)?;
    let mut at = Cursor::new(&tokens);
    if !at.take(&["CREATE"]) {
        return None;
    }
    let _temporary = at.take(&["TEMP"]) || at.take(&["TEMPORARY"]);
    if !at.take(&["TABLE"]) {
        return None;
    }
    object_name(&mut at)?;
    let body = at.group()?;
    let mut table = TableSql::default();
    for part in body.by_comma() {
        element(part, &mut table);
    }
    while let Some(token) = at.next() {
        match token {
            token if token.is("WITHOUT") && at.take(&["ROWID"]) => table.without_rowid = true,
            token if token.is("STRICT") => table.strict = true,
            Token::Sign(',' | ';') => {}
            _ => table.doubtful = true,
        }
    }
    (!table.columns.is_empty()).then_some(table)
}

/// Reads a CREATE INDEX; `None` for anything else.
pub(super) fn index(sql: &str) -> Option<IndexSql> {
    let tokens = tokens(sql)?;
    let mut at = Cursor::new(&tokens);
    if !at.take(&["CREATE"]) {
        return None;
    }
    let unique = at.take(&["UNIQUE"]);
    if !at.take(&["INDEX"]) {
        return None;
    }
    object_name(&mut at)?;
    if !at.take(&["ON"]) {
        return None;
    }
    at.name()?;
    let terms = at.group()?.by_comma().into_iter().map(term).collect();
    Some(IndexSql { unique, terms, partial: at.sees("WHERE") })
}

fn object_name(at: &mut Cursor<'_>) -> Option<()> {
    let _exists = at.take(&["IF", "NOT", "EXISTS"]);
    at.name()?;
    if at.take_sign('.') {
        at.name()?;
    }
    Some(())
}

/// What belongs to a term stands at its end, behind a column or an expression of any length.
fn term(at: Cursor<'_>) -> Term {
    let mut rest = at.rest();
    let mut descending = false;
    if let [before @ .., last] = rest
        && last.is("AUTOINCREMENT")
    {
        rest = before;
    }
    if let [before @ .., last] = rest
        && (last.is("DESC") || last.is("ASC"))
        && before.last().is_some_and(ends_operand)
    {
        descending = last.is("DESC");
        rest = before;
    }
    let (column, collation) = operand(rest);
    Term { column: column.map(str::to_owned), collation: collation.map(str::to_owned), descending }
}

/// Whether an expression may end with the word: a column may be called DESC.
fn ends_operand(token: &Token) -> bool {
    const OPERATORS: [&str; 10] = ["AND", "OR", "NOT", "IS", "IN", "LIKE", "GLOB", "REGEXP", "MATCH", "COLLATE"];
    match token {
        Token::Sign(sign) => *sign == ')',
        token => !OPERATORS.iter().any(|word| token.is(word)),
    }
}

/// The column, if it is one, and the collation that is written with it; parentheses around it mean nothing to SQLite.
fn operand(mut tokens: &[Token]) -> (Option<&str>, Option<&str>) {
    let mut outermost = None;
    loop {
        if let [Token::Sign('('), inner @ .., Token::Sign(')')] = tokens
            && is_group(tokens)
        {
            tokens = inner;
        } else if let [before @ .., collate, name] = tokens
            && collate.is("COLLATE")
            && is_one_operand(before)
        {
            outermost = outermost.or(name.name());
            tokens = before;
        } else {
            break;
        }
    }
    match tokens {
        [one] => (one.name(), outermost),
        _ => (None, outermost),
    }
}

/// Whether COLLATE behind it is for all of it, and not for the last operand of several.
fn is_one_operand(mut tokens: &[Token]) -> bool {
    while let [before @ .., collate, _] = tokens
        && collate.is("COLLATE")
    {
        tokens = before;
    }
    match tokens {
        [_] => true,
        [Token::Word(_) | Token::Quoted(_), call @ ..] if is_group(call) => true,
        _ => is_group(tokens),
    }
}

/// Whether the first and the last are the two ends of one parenthesis.
fn is_group(tokens: &[Token]) -> bool {
    let mut at = Cursor::new(tokens);
    at.group().is_some() && at.is_at_end()
}

/// A column with its constraints, or constraints of the table: SQLite wants no comma between the latter.
fn element(mut at: Cursor<'_>, table: &mut TableSql) {
    const OF_TABLE: [&str; 5] = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"];
    if OF_TABLE.iter().any(|word| at.sees(word)) {
        if table_constraints(&mut at, table).is_none() {
            table.doubtful = true;
        }
        return;
    }
    let Some(name) = at.name() else {
        table.doubtful = true;
        return;
    };
    let mut column = ColumnSql {
        name: name.to_owned(),
        type_name: type_name(&mut at),
        collation: None,
        not_null: false,
        generated: None,
        default: DefaultSql::Null,
    };
    if column_constraints(&mut at, &mut column, table).is_none() {
        table.doubtful = true;
    }
    table.columns.push(column);
}

fn type_name(at: &mut Cursor<'_>) -> String {
    const AFTER: [&str; 10] =
        ["CONSTRAINT", "PRIMARY", "NOT", "NULL", "UNIQUE", "CHECK", "DEFAULT", "COLLATE", "REFERENCES", "AS"];
    let mut words: Vec<&str> = Vec::new();
    while let Some(token) = at.peek() {
        if AFTER.iter().any(|word| token.is(word)) {
            break;
        }
        let generated = token.is("GENERATED");
        let Some(word) = token.name() else {
            break;
        };
        words.push(word);
        let _word = at.next();
        if generated && at.take(&["ALWAYS"]) {
            // Not a part of the type: `AS` follows.
            words.pop();
            break;
        }
    }
    let mut name = words.join(" ");
    // A length means nothing to SQLite, but that INTEGER(8) is not INTEGER.
    if let Some(length) = at.group() {
        let text = |token: &Token| match token {
            Token::Number(text) | Token::Word(text) => text.clone(),
            Token::Sign(sign) => sign.to_string(),
            _ => String::new(),
        };
        name.push_str(&format!("({})", length.rest().iter().map(text).collect::<String>()));
    }
    name
}

fn column_constraints(at: &mut Cursor<'_>, column: &mut ColumnSql, table: &mut TableSql) -> Option<()> {
    let own = |descending| Term { column: Some(column.name.clone()), collation: None, descending };
    let (ascending, descending) = (own(false), own(true));
    while !at.is_at_end() {
        if at.take(&["CONSTRAINT"]) {
            at.name()?;
        } else if at.take(&["PRIMARY", "KEY"]) {
            let term = if at.take(&["DESC"]) { &descending } else { &ascending };
            let _ascending = at.take(&["ASC"]);
            conflict(at)?;
            let _counted = at.take(&["AUTOINCREMENT"]);
            table.constraints.push(Constraint { primary: true, of_column: true, terms: vec![term.clone()] });
        } else if at.take(&["UNIQUE"]) {
            conflict(at)?;
            table.constraints.push(Constraint { primary: false, of_column: true, terms: vec![ascending.clone()] });
        } else if at.take(&["NOT", "NULL"]) {
            column.not_null = true;
            conflict(at)?;
        } else if at.take(&["NULL"]) {
            conflict(at)?;
        } else if at.take(&["CHECK"]) {
            at.group()?;
            conflict(at)?;
        } else if at.take(&["DEFAULT"]) {
            column.default = default(at)?;
        } else if at.take(&["COLLATE"]) {
            column.collation = Some(at.name()?.to_owned());
        } else if at.take(&["GENERATED", "ALWAYS"]) {
        } else if at.take(&["AS"]) {
            at.group()?;
            let stored = at.take(&["STORED"]);
            let _virtual = at.take(&["VIRTUAL"]);
            column.generated = Some(stored);
        } else {
            references(at)?;
        }
    }
    Some(())
}

fn table_constraints(at: &mut Cursor<'_>, table: &mut TableSql) -> Option<()> {
    while !at.is_at_end() {
        let mut keys = |at: &mut Cursor<'_>, primary| {
            let terms = at.group()?.by_comma().into_iter().map(term).collect();
            table.constraints.push(Constraint { primary, of_column: false, terms });
            conflict(at)
        };
        if at.take(&["CONSTRAINT"]) {
            at.name()?;
        } else if at.take(&["PRIMARY", "KEY"]) {
            keys(at, true)?;
        } else if at.take(&["UNIQUE"]) {
            keys(at, false)?;
        } else if at.take(&["CHECK"]) {
            at.group()?;
            conflict(at)?;
        } else if at.take(&["FOREIGN", "KEY"]) {
            at.group()?;
        } else {
            references(at)?;
        }
    }
    Some(())
}

fn conflict(at: &mut Cursor<'_>) -> Option<()> {
    if at.take(&["ON", "CONFLICT"]) {
        at.name()?;
    }
    Some(())
}

/// Anything of a REFERENCES clause.
fn references(at: &mut Cursor<'_>) -> Option<()> {
    if at.take(&["REFERENCES"]) {
        at.name()?;
        let _columns = at.group();
    } else if at.take(&["ON", "DELETE"]) || at.take(&["ON", "UPDATE"]) || at.take(&["ON", "INSERT"]) {
        if !(at.take(&["SET", "NULL"]) || at.take(&["SET", "DEFAULT"]) || at.take(&["NO", "ACTION"])) {
            at.name()?;
        }
    } else if at.take(&["MATCH"]) || at.take(&["INITIALLY"]) {
        at.name()?;
    } else if !(at.take(&["NOT", "DEFERRABLE"]) || at.take(&["DEFERRABLE"])) {
        return None;
    }
    Some(())
}

fn default(at: &mut Cursor<'_>) -> Option<DefaultSql> {
    if at.group().is_some() {
        return Some(DefaultSql::Unknown);
    }
    let negative = at.take_sign('-');
    let _positive = at.take_sign('+');
    Some(match at.next()? {
        token if token.is("NULL") => DefaultSql::Null,
        // A bare name stands for itself as text, but for those that stand for the time or for a truth.
        Token::Word(word) => match word.to_ascii_uppercase().as_str() {
            "TRUE" => DefaultSql::Literal(false, Token::Number("1".to_owned())),
            "FALSE" => DefaultSql::Literal(false, Token::Number("0".to_owned())),
            _ if word.to_ascii_uppercase().starts_with("CURRENT_") => DefaultSql::Unknown,
            _ => DefaultSql::Literal(negative, Token::Text(word.clone())),
        },
        Token::Quoted(word) => DefaultSql::Literal(negative, Token::Text(word.clone())),
        Token::Sign(_) => return None,
        literal => DefaultSql::Literal(negative, literal.clone()),
    })
}
