//! The database's own, read back from the statements that [`super::database`] writes.

use super::DatabaseSettings;
use super::database::{Grant, LISTS, Label, Values};
use super::tokens::Tokens;

impl DatabaseSettings {
    /// Takes one statement into what there is already; `None` if it is not known.
    pub(super) fn take(of: &mut Option<Self>, mut tokens: Tokens) -> Option<()> {
        if tokens.words("ALTER").is_some() {
            let role = if tokens.words("ROLE").is_some() { Some(named(&mut tokens, "IN")?) } else { None };
            target(&mut tokens)?;
            return alter(of, role, tokens);
        }
        // All others come after its owner.
        let own = of.as_mut()?;
        if tokens.words("SET SESSION AUTHORIZATION").is_some() {
            own.grantor = Some(tokens.name()?);
        } else if tokens.words("RESET SESSION AUTHORIZATION").is_some() {
            own.grantor = None;
        } else if tokens.words("COMMENT ON").is_some() {
            target(&mut tokens)?;
            tokens.words("IS")?;
            own.comment = Some(tokens.text()?);
        } else if tokens.words("SECURITY LABEL FOR").is_some() {
            let provider = named(&mut tokens, "ON")?;
            target(&mut tokens)?;
            tokens.words("IS")?;
            own.labels.push(Label { provider, label: tokens.text()? });
        } else if tokens.words("REVOKE ALL ON").is_some() {
            target(&mut tokens)?;
            tokens.words("FROM PUBLIC")?;
            tokens.symbol(',')?;
            tokens.name()?;
            own.grants = Some(Vec::new());
        } else {
            let grant = grant(&mut tokens, own.grantor.as_ref().unwrap_or(&own.owner))?;
            own.grants.as_mut()?.push(grant);
        }
        tokens.end()
    }
}

/// After `ALTER [ROLE x IN] DATABASE d`.
fn alter(of: &mut Option<DatabaseSettings>, role: Option<String>, mut tokens: Tokens) -> Option<()> {
    if role.is_none() && tokens.words("OWNER TO").is_some() {
        let owner = tokens.name()?;
        *of = Some(DatabaseSettings { owner, connection_limit: -1, ..DatabaseSettings::default() });
        return tokens.end();
    }
    let own = of.as_mut()?;
    if role.is_none() && tokens.words("WITH CONNECTION LIMIT").is_some() {
        tokens.symbol('=')?;
        own.connection_limit = tokens.number()?;
    } else if role.is_none() && tokens.words("WITH IS_TEMPLATE").is_some() {
        tokens.symbol('=')?;
        tokens.words("true")?;
        own.is_template = true;
    } else {
        tokens.words("SET")?;
        let setting = named(&mut tokens, "TO")?;
        let value = format!("{setting}={}", value(&setting, &tokens.texts()?)?);
        match own.settings.last_mut() {
            Some(last) if last.role == role => last.values.push(value),
            _ => own.settings.push(Values { role, values: vec![value] }),
        }
    }
    tokens.end()
}

/// `GRANT p ON DATABASE d TO x WITH GRANT OPTION`
fn grant(tokens: &mut Tokens, grantor: &str) -> Option<Grant> {
    tokens.words("GRANT")?;
    let privilege = tokens.word()?;
    ["CREATE", "CONNECT", "TEMPORARY"].contains(&privilege.as_str()).then_some(())?;
    tokens.words("ON")?;
    target(tokens)?;
    tokens.words("TO")?;
    let grantee = if tokens.words("PUBLIC").is_some() { None } else { Some(tokens.name()?) };
    let grantable = tokens.words("WITH GRANT OPTION").is_some();
    Some(Grant { grantor: grantor.to_owned(), grantee, privilege, grantable })
}

/// `DATABASE :"DBNAME"`
fn target(tokens: &mut Tokens) -> Option<()> {
    tokens.words("DATABASE")?;
    tokens.symbol(':')?;
    (tokens.name()? == "DBNAME").then_some(())
}

fn named(tokens: &mut Tokens, then: &str) -> Option<String> {
    let name = tokens.name()?;
    tokens.words(then).map(|()| name)
}

/// A setting's value as the catalog has it.
fn value(setting: &str, words: &[String]) -> Option<String> {
    if !LISTS.iter().any(|list| list.eq_ignore_ascii_case(setting)) {
        return (words.len() == 1).then(|| words.concat());
    }
    let elements: Vec<String> = words.iter().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
    Some(elements.join(", "))
}
