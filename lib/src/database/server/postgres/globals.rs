//! Roles of a dump in a server that has roles of its own.

use std::io::Read;

/// At most so much is read of what `pg_dumpall --globals-only` wrote.
const GLOBALS_MAX: u64 = 256 << 20;

pub(super) fn read(content: &mut dyn Read) -> std::io::Result<String> {
    let mut text = String::new();
    content.take(GLOBALS_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Its last words.
pub(super) fn is_complete(text: &str) -> bool {
    let end = text.trim_end().lines().rev().take(4);
    end.into_iter().any(|line| line == "-- PostgreSQL database cluster dump complete")
}

/// The statements without those that make what is there: roles that are there keep their password, and tablespaces
/// their place. `tablespaces`: whether any are made.
pub(super) fn for_server(text: &str, roles: &[String], tablespaces: Option<&[String]>) -> String {
    let kept = text.lines().filter_map(|line| {
        if let Some(role) = line.strip_prefix("CREATE ROLE ").and_then(|rest| rest.strip_suffix(';')) {
            return (!roles.iter().any(|there| there == role)).then(|| line.to_owned());
        }
        if let Some(rest) = line.strip_prefix("ALTER ROLE ")
            && roles.iter().any(|role| rest.strip_prefix(role.as_str()).is_some_and(|rest| rest.starts_with(" WITH ")))
            && let Some(at) = line.rfind(" PASSWORD '")
        {
            return Some(format!("{};", &line[..at]));
        }
        if let Some(rest) = line.strip_prefix("CREATE TABLESPACE ") {
            let there = tablespaces?;
            let name = rest.split(" OWNER ").next().unwrap_or_default();
            return (!there.iter().any(|other| other == name)).then(|| line.to_owned());
        }
        if tablespaces.is_none() && (line.starts_with("ALTER TABLESPACE ") || line.contains(" ON TABLESPACE ")) {
            return None;
        }
        Some(line.to_owned())
    });
    let mut all: String = kept.flat_map(|line| [line, "\n".to_owned()]).collect();
    all.push('\n');
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"-- PostgreSQL database cluster dump
\restrict abc
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x';
CREATE ROLE "odd ""name";
ALTER ROLE "odd ""name" WITH LOGIN PASSWORD 'y' VALID UNTIL 'infinity';
CREATE ROLE appendix;
ALTER ROLE appendix WITH LOGIN PASSWORD 'z';
CREATE TABLESPACE fast OWNER app LOCATION '/fast';
GRANT reader TO app GRANTED BY postgres;
\unrestrict abc

--
-- PostgreSQL database cluster dump complete
--
"#;

    #[test]
    fn roles_that_are_there_keep_their_password_and_the_others_are_made() {
        let all = for_server(TEXT, &["app".to_owned(), "\"odd \"\"name\"".to_owned()], Some(&[]));
        assert!(!all.contains("CREATE ROLE app;") && !all.contains("CREATE ROLE \"odd"), "{all}");
        assert!(all.contains("ALTER ROLE app WITH NOSUPERUSER LOGIN;\n"), "{all}");
        assert!(all.contains("CREATE ROLE appendix;") && all.contains("PASSWORD 'z'"), "{all}");
        assert!(all.contains("CREATE TABLESPACE fast") && all.contains("GRANT reader TO app"), "{all}");
        assert!(!for_server(TEXT, &[], None).contains("TABLESPACE"));
        assert!(!for_server(TEXT, &[], Some(&["fast".to_owned()])).contains("TABLESPACE"));
    }

    #[test]
    fn only_the_whole_text_is_complete() {
        assert!(is_complete(TEXT));
        for end in (0..TEXT.len() - 10).step_by(11) {
            assert!(!is_complete(&TEXT[..end]), "{end}");
        }
    }
}
