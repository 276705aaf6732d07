//! Just as much XML as a listing is: elements of one name, one after the other. Used by [`super::dialect`].

/// The document with the text of every element of this name changed.
pub fn with(document: &str, name: &str, change: impl Fn(&str) -> String) -> String {
    elements(document, name, |found| {
        for element in found {
            let changed = change(text(element, name).unwrap_or_default());
            *element = format!("<{name}>{changed}</{name}>");
        }
    })
}

/// The document with its elements of this name, in place of the first of them, as `change` leaves them.
pub fn elements(document: &str, name: &str, change: impl FnOnce(&mut Vec<String>)) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let (mut found, mut rest, mut place) = (Vec::new(), String::new(), None);
    let mut left = document;
    while let Some((before, behind)) = left.split_once(&open) {
        let Some((inner, after)) = behind.split_once(&close) else { break };
        rest.push_str(before);
        place.get_or_insert(rest.len());
        found.push(format!("{open}{inner}{close}"));
        left = after;
    }
    rest.push_str(left);
    change(&mut found);
    rest.insert_str(place.unwrap_or(rest.len()), &found.concat());
    rest
}

/// The text of the first element of this name.
pub fn text<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, behind) = document.split_once(&format!("<{name}>"))?;
    Some(behind.split_once(&format!("</{name}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_changed_and_put_back() {
        let document = "<a><x>1</x><x>2</x><y/></a>";
        assert_eq!(elements(document, "x", |found| found.reverse()), "<a><x>2</x><x>1</x><y/></a>");
        assert_eq!(elements(document, "x", Vec::clear), "<a><y/></a>");
        assert_eq!(elements(document, "z", |_| {}), document);
        assert_eq!(with(document, "x", |text| format!("{text}!")), "<a><x>1!</x><x>2!</x><y/></a>");
        assert_eq!((text(document, "x"), text(document, "y")), (Some("1"), None));
    }
}
