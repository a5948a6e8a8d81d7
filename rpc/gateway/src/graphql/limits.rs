//! What a document may cost, judged before anything of it runs.
//!
//! Brackets are counted before the text is parsed; then fields are, with fragments in every place where they stand.
//! A fragment is measured once, so that fragments of fragments cost the measuring nothing.

use std::collections::HashMap;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::{
    ExecutableDocument, OperationDefinition, Selection, SelectionSet,
};
use prost_reflect::MessageDescriptor;

use super::types::Roots;

/// Bytes of a document.
const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// Brackets within brackets.
const NESTING_MAX: usize = 64;
/// Fields within fields.
const DEPTH_MAX: usize = 16;
/// Fields at the root, under whatever names: each is a call.
const ROOTS_MAX: usize = 20;
/// Fields altogether, those within lists counted [`LIST`] times.
const COST_MAX: usize = 10_000;
/// How many elements a list is taken for.
const LIST: usize = 10;

/// Parses a document that is not too much.
pub(super) fn parse(text: &str, roots: &Roots) -> Result<ExecutableDocument, String> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(format!(
            "the document is longer than {DOCUMENT_BYTES_MAX} bytes"
        ));
    }
    if nesting(text) > NESTING_MAX {
        return Err(format!(
            "more than {NESTING_MAX} brackets stand within each other"
        ));
    }
    let document = parse_query(text).map_err(|error| error.to_string())?;
    let mut measure = Measure {
        document: &document,
        roots,
        fragments: HashMap::new(),
        open: 0,
    };
    for (_, operation) in document.operations.iter() {
        measure.operation(&operation.node)?;
    }
    Ok(document)
}

/// The deepest nesting, strings and comments taken for what they are.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("\"\"\"") {
            let inner = rest.get(3..).unwrap_or_default();
            inner.find("\"\"\"").map_or(rest.len(), |end| end + 6)
        } else {
            match first {
                '"' => string_len(rest),
                '#' => rest.find('\n').unwrap_or(rest.len()),
                '{' | '[' | '(' => {
                    depth += 1;
                    deepest = deepest.max(depth);
                    1
                }
                '}' | ']' | ')' => {
                    depth = depth.saturating_sub(1);
                    1
                }
                other => other.len_utf8(),
            }
        };
        rest = rest.get(skip.max(1)..).unwrap_or_default();
    }
    deepest
}

fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' | '\n' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[derive(Clone, Copy, Default)]
struct Size {
    cost: usize,
    depth: usize,
    /// Fields of the set itself.
    count: usize,
}

/// Measures all operations of a document.
struct Measure<'a> {
    document: &'a ExecutableDocument,
    roots: &'a Roots,
    fragments: HashMap<Place, Option<Size>>,
    /// Fragments that are being measured: those that are `None`.
    open: usize,
}

/// A fragment's name, the message that it stands in, and whether it stands at the root.
type Place = (String, String, bool);

impl Measure<'_> {
    fn operation(&mut self, operation: &OperationDefinition) -> Result<(), String> {
        let size = self.set(&operation.selection_set.node, None, true)?;
        if size.count > ROOTS_MAX {
            return Err(format!(
                "an operation has more than {ROOTS_MAX} fields at its root, under whatever names"
            ));
        }
        if size.depth > DEPTH_MAX {
            return Err(format!(
                "more than {DEPTH_MAX} fields stand within each other"
            ));
        }
        if size.cost > COST_MAX {
            return Err(format!(
                "an operation costs {}; {COST_MAX} is the most (a list counts {LIST} times)",
                size.cost
            ));
        }
        Ok(())
    }

    fn set(
        &mut self,
        set: &SelectionSet,
        of: Option<&MessageDescriptor>,
        is_root: bool,
    ) -> Result<Size, String> {
        let mut size = Size::default();
        for selection in &set.items {
            let one = match &selection.node {
                Selection::Field(field) => {
                    let name = field.node.name.node.as_str();
                    let known = of.and_then(|it| it.get_field_by_json_name(name));
                    let root = if is_root {
                        self.roots.get(name).cloned()
                    } else {
                        None
                    };
                    let inner_of = match &known {
                        Some(field) => field.kind().as_message().cloned(),
                        None => root,
                    };
                    let inner =
                        self.set(&field.node.selection_set.node, inner_of.as_ref(), false)?;
                    let times = if known.is_some_and(|it| it.is_list() || it.is_map()) {
                        LIST
                    } else {
                        1
                    };
                    Size {
                        cost: inner.cost.saturating_mul(times).saturating_add(1),
                        depth: inner.depth + 1,
                        count: 1,
                    }
                }
                Selection::InlineFragment(inline) => {
                    self.set(&inline.node.selection_set.node, of, is_root)?
                }
                Selection::FragmentSpread(spread) => {
                    self.fragment(spread.node.fragment_name.node.as_str(), of, is_root)?
                }
            };
            size.cost = size.cost.saturating_add(one.cost);
            size.depth = size.depth.max(one.depth);
            size.count = size.count.saturating_add(one.count);
            if size.depth > NESTING_MAX {
                return Err(format!(
                    "more than {DEPTH_MAX} fields stand within each other"
                ));
            }
        }
        Ok(size)
    }

    fn fragment(
        &mut self,
        name: &str,
        of: Option<&MessageDescriptor>,
        is_root: bool,
    ) -> Result<Size, String> {
        let key = (
            name.to_owned(),
            of.map(|it| it.full_name().to_owned()).unwrap_or_default(),
            is_root,
        );
        match self.fragments.get(&key) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return Err(format!("the fragment `{name}` stands within itself")),
            None => {}
        }
        let document = self.document;
        let Some(fragment) = document.fragments.get(name) else {
            return Err(format!("there is no fragment `{name}`"));
        };
        self.fragments.insert(key.clone(), None);
        self.open += 1;
        // A chain of fragments is as deep a recursion as brackets are.
        if self.open > NESTING_MAX {
            return Err(format!(
                "more than {NESTING_MAX} fragments stand within each other"
            ));
        }
        let size = self.set(&fragment.node.selection_set.node, of, is_root)?;
        self.open -= 1;
        self.fragments.insert(key, Some(size));
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text, &Roots::new()).unwrap_err()
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_measured(text in "([{}()\"#\\\\\n]|\"\"\"|a|\\.\\.\\.f|fragment f on Q|query){0,60}|.*") {
            drop(parse(&text, &Roots::new()));
        }
    }

    #[test]
    fn nesting_is_found_without_parsing_and_not_in_strings() {
        assert_eq!(nesting("{a(b:\"{{{\")#{{\n{c}}"), 2);
        assert_eq!(nesting("{a(b:\"\"\"{ \" {\"\"\")}"), 2);
        assert!(
            refused(&format!("{}a{}", "{a".repeat(100_000), "}".repeat(100_000)))
                .contains("longer")
        );
        assert!(
            refused(&format!("{}a{}", "{a".repeat(1000), "}".repeat(1000))).contains("brackets")
        );
        assert!(
            refused(&format!(
                "{{a(b:{}{})}}",
                "[".repeat(1000),
                "]".repeat(1000)
            ))
            .contains("brackets")
        );
    }

    #[test]
    fn aliases_fragments_and_depth_are_counted() {
        let aliases: String = (0..30).map(|at| format!("a{at}: a ")).collect();
        assert!(refused(&format!("{{ {aliases} }}")).contains("at its root"));
        let within = format!("{{ ...f }} fragment f on Query {{ {aliases} }}");
        assert!(refused(&within).contains("at its root"));
        let deep = format!("{}a{}", "{a".repeat(20), "}".repeat(20));
        assert!(refused(&deep).contains("within each other"));
        assert!(refused("{ ...f } fragment f on Query { ...f }").contains("within itself"));
        // Two to the thirtieth fields in thirty lines, measured at once.
        let mut bomb = String::from("{ a { ...f0 } }");
        for at in 0..30 {
            bomb.push_str(&format!(
                " fragment f{at} on T {{ ...f{} ...f{} }}",
                at + 1,
                at + 1
            ));
        }
        bomb.push_str(" fragment f30 on T { a }");
        assert!(refused(&bomb).contains("costs"));
    }

    #[test]
    fn a_chain_of_fragments_is_as_long_as_brackets_are_deep() {
        let chain = |count: usize| {
            let links: String = (0..count)
                .map(|at| format!(" fragment f{at} on Q {{ ...f{} }}", at + 1))
                .collect();
            format!("{{ ...f0 }}{links} fragment f{count} on Q {{ a }}")
        };
        assert!(parse(&chain(NESTING_MAX - 1), &Roots::new()).is_ok());
        assert!(refused(&chain(NESTING_MAX)).contains("fragments stand within"));
    }

    #[test]
    fn operations_share_what_was_measured() {
        // Each of a thousand operations names the same thousand fragments.
        let names = (0..1000).map(|at| format!("...f{at} "));
        let fragments = (0..1000).map(|at| format!("fragment f{at} on Q {{b}} "));
        let operations = (0..1000).map(|at| format!("query q{at} {{ a {{ ...all }} }} "));
        let text = format!(
            "{}fragment all on Q {{ {}}} {}",
            operations.collect::<String>(),
            names.collect::<String>(),
            fragments.collect::<String>(),
        );
        let document = parse_query(&text).unwrap();
        let roots = Roots::new();
        let mut measure = Measure {
            document: &document,
            roots: &roots,
            fragments: HashMap::new(),
            open: 0,
        };
        for (_, operation) in document.operations.iter() {
            measure.operation(&operation.node).unwrap();
        }
        assert_eq!((measure.fragments.len(), measure.open), (1001, 0));
    }

    #[test]
    fn a_fragment_at_the_root_is_measured_as_such() {
        // Within a field that nobody knows its fields are no lists.
        let pool = crate::schema::google();
        let of = pool.get_message_by_name("google.rpc.BadRequest").unwrap();
        let roots = Roots::from_iter([("bad".to_owned(), of)]);
        let many: String = (0..1200)
            .map(|at| format!("a{at}: fieldViolations {{ field }} "))
            .collect();
        let text = format!("{{ no {{ ...f }} ...f }} fragment f on Query {{ bad {{ {many} }} }}");
        assert!(parse(&text, &roots).unwrap_err().contains("costs"));
    }
}
