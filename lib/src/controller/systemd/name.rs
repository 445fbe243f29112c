//! Unit names, as systemd.unit(5) allows them.

/// The kinds of units that can be started and stopped.
const KINDS: [&str; 11] =
    ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];
const NAME_MAX: usize = 255;

/// The full name that is meant: `plex` is `plex.service`.
pub(super) fn full_name(name: &str) -> Result<String, String> {
    let full = match name.rsplit_once('.') {
        Some((_, kind)) if KINDS.contains(&kind) => name.to_owned(),
        _ => format!("{name}.service"),
    };
    let prefix = full.rsplit_once('.').map_or("", |(prefix, _)| prefix);
    if full.len() > NAME_MAX {
        return Err(format!("a unit name has at most {NAME_MAX} bytes"));
    }
    if prefix.is_empty() || prefix.starts_with('@') {
        return Err("a unit name has something before its ending".to_owned());
    }
    if let Some(strange) = prefix.chars().find(|c| !c.is_ascii_alphanumeric() && !":-_.\\@".contains(*c)) {
        return Err(format!("{strange:?} can't be in a unit name; `systemd-escape` makes one of a path"));
    }
    if prefix.ends_with('@') {
        return Err(format!("{full} is a template: name an instance, as {prefix}NAME.{}", kind_of(&full)));
    }
    Ok(full)
}

/// `service` of `a.service`.
pub(super) fn kind_of(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_a_service_also_with_a_dot_in_it() {
        assert_eq!(full_name("plex").unwrap(), "plex.service");
        assert_eq!(full_name("org.example.plex").unwrap(), "org.example.plex.service");
        assert_eq!(full_name("a.socket").unwrap(), "a.socket");
        assert_eq!(full_name("getty@tty1").unwrap(), "getty@tty1.service");
        assert_eq!(full_name(r"dev-disk\x2dby.mount").unwrap(), r"dev-disk\x2dby.mount");
    }

    #[test]
    fn what_can_not_be_a_unit_is_refused_before_systemd_is_asked() {
        for name in ["", ".service", "@.service", "@x.service", "a@.service", "a@", "../x", "a/b", "a\nb", "a b", "ü"]
        {
            assert!(full_name(name).is_err(), "{name:?}");
        }
        assert!(full_name(&"x".repeat(256)).is_err());
    }
}
