//! Rules that hold for every setting.

use super::*;

#[test]
fn no_secret_has_a_flag() {
    for setting in SETTINGS {
        // Its flag is refused with a secret in it.
        let is_judged = [RESTORE_CONNECTION_STRING, DRILL_CONNECTION_STRING]
            .iter()
            .any(|judged| judged.variable == setting.variable);
        assert!(setting.secrecy == Secrecy::Public || setting.flag.is_none() || is_judged, "{}", setting.variable);
        assert!(!setting.help.ends_with('.') && !setting.help.is_empty(), "{}", setting.variable);
    }
}

#[test]
fn variables_and_flags_are_unique() {
    let mut names: Vec<&str> =
        SETTINGS.iter().flat_map(|setting| std::iter::once(setting.variable).chain(setting.flag)).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
