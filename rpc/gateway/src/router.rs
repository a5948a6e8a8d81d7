//! Which binding a path belongs to: path templates of `google.api.http` in a trie.
//!
//! The grammar is that of the comment in `google/api/http.proto`: literals, `*`, `**` (last), `{field.path=segments}`
//! and a `:verb` at the end. Looking up prefers literals to `*` to `**`, and goes back where that leads nowhere; a
//! node of the trie is looked at once at most, so a path costs no more than the trie has nodes.

use std::collections::HashMap;

/// Segments that a path may have.
const SEGMENTS_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Literal(String),
    /// `*`: one segment.
    One,
    /// `**`: any number of segments, none too.
    Rest,
}

/// `{path=segments}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Names of fields, from the request message downwards.
    pub(crate) path: Vec<String>,
    start: usize,
    end: usize,
}

/// A parsed path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    verb: Option<String>,
    variables: Vec<Variable>,
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser {
            rest: text,
            template: Self {
                segments: Vec::new(),
                verb: None,
                variables: Vec::new(),
            },
        };
        parser.template()?;
        Ok(parser.template)
    }

    pub(crate) fn variables(&self) -> &[Variable] {
        &self.variables
    }

    pub(crate) fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// Whether a variable stands for exactly one segment of any text.
    pub(crate) fn is_single(&self, variable: Option<usize>) -> bool {
        let variable = variable.and_then(|at| self.variables.get(at));
        let inside = variable.and_then(|it| self.segments.get(it.start..it.end));
        inside == Some(&[Segment::One])
    }

    /// The segments one by one, for those who write paths in another way.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let mut before = None;
        self.segments.iter().enumerate().map(move |(at, segment)| {
            let inside = |it: &Variable| (it.start..it.end).contains(&at);
            let variable = self.variables.iter().position(inside);
            match segment {
                Segment::Literal(literal) => {
                    before = Some(literal.as_str());
                    Part::Literal(literal)
                }
                Segment::One => Part::One { before, variable },
                Segment::Rest => Part::Rest { before, variable },
            }
        })
    }

    /// The value of each variable in a path that matches.
    fn captures(&self, path: &[String]) -> Result<Vec<String>, Malformed> {
        let values = self.variables.iter().map(|variable| {
            let inside = self
                .segments
                .get(variable.start..variable.end)
                .unwrap_or_default();
            let end = if inside.last() == Some(&Segment::Rest) {
                path.len()
            } else {
                variable.end
            };
            let parts = path.get(variable.start..end).unwrap_or_default();
            let is_one = inside.len() == 1 && inside.first() != Some(&Segment::Rest);
            let parts = parts.iter().map(|part| unescape(part, is_one));
            Ok(parts.collect::<Result<Vec<_>, _>>()?.join("/"))
        });
        values.collect()
    }
}

/// A segment of a template.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    Literal(&'a str),
    /// One segment, the last literal before it, and the variable that it is in.
    One {
        before: Option<&'a str>,
        variable: Option<usize>,
    },
    /// The rest of the path.
    Rest {
        before: Option<&'a str>,
        variable: Option<usize>,
    },
}

struct Parser<'a> {
    rest: &'a str,
    template: Template,
}

impl Parser<'_> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self, stop: &[char]) -> String {
        let end = self.rest.find(stop).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn template(&mut self) -> Result<(), String> {
        if !self.eat("/") {
            return Err("a path begins with `/`".to_owned());
        }
        self.segments(false)?;
        if self.eat(":") {
            let verb = self.word(&['/', '{', '}', '*', ':']);
            if verb.is_empty() || !self.rest.is_empty() {
                return Err("a verb is one word at the end".to_owned());
            }
            self.template.verb = Some(verb);
        }
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(format!("`{}` is not understood", self.rest))
        }
    }

    fn segments(&mut self, inside: bool) -> Result<(), String> {
        loop {
            if self.template.segments.last() == Some(&Segment::Rest) {
                return Err("`**` has to be the last segment".to_owned());
            }
            if self.template.segments.len() >= SEGMENTS_MAX {
                return Err(format!("it has more than {SEGMENTS_MAX} segments"));
            }
            if self.eat("{") {
                if inside {
                    return Err("a variable stands within a variable".to_owned());
                }
                self.variable()?;
            } else {
                let segment = self.segment()?;
                self.template.segments.push(segment);
            }
            if !self.eat("/") {
                return Ok(());
            }
        }
    }

    fn segment(&mut self) -> Result<Segment, String> {
        if self.eat("**") {
            return Ok(Segment::Rest);
        }
        if self.eat("*") {
            return Ok(Segment::One);
        }
        let literal = self.word(&['/', '{', '}', '*', ':', '=']);
        if literal.is_empty() {
            return Err("a segment is empty".to_owned());
        }
        let literal =
            unescape(&literal, true).map_err(|_malformed| "an escape is malformed".to_owned())?;
        Ok(Segment::Literal(literal))
    }

    fn variable(&mut self) -> Result<(), String> {
        let name = self.word(&['=', '}', '/', '{', '*', ':']);
        let path: Vec<String> = name.split('.').map(ToOwned::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err("a variable has no name".to_owned());
        }
        if self.template.variables.iter().any(|it| it.path == path) {
            return Err(format!("`{{{name}}}` stands twice"));
        }
        let start = self.template.segments.len();
        if self.eat("=") {
            self.segments(true)?;
        } else {
            self.template.segments.push(Segment::One);
        }
        if !self.eat("}") {
            return Err(format!("`{{{name}` is not closed"));
        }
        let end = self.template.segments.len();
        self.template.variables.push(Variable { path, start, end });
        Ok(())
    }
}

/// A path that is no path: malformed escapes, no UTF-8, or steps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Undoes `%XX`. Of a variable of several segments, escaped slashes stay escaped, so that they can be told apart.
fn unescape(text: &str, slashes: bool) -> Result<String, Malformed> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
        let [high, low] = digits.map(|it| char::from(it).to_digit(16));
        let byte = high.zip(low).map(|(high, low)| high << 4 | low);
        let byte = byte.and_then(|it| u8::try_from(it).ok()).ok_or(Malformed)?;
        rest = tail;
        if byte == b'/' && !slashes {
            out.extend_from_slice(b"%2F");
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).map_err(|_utf8| Malformed)
}

/// Undoes `%XX`, and `+` for a space, in a query.
pub(crate) fn unescape_query(text: &str) -> Result<String, Malformed> {
    unescape(&text.replace('+', " "), true)
}

/// What stands where a template ends: bindings by verb and HTTP method.
#[derive(Debug)]
struct Leaf<T> {
    verb: Option<String>,
    /// `None`: any method.
    method: Option<String>,
    template: Template,
    value: T,
}

#[derive(Debug)]
struct Node<T> {
    literals: HashMap<String, Self>,
    one: Option<Box<Self>>,
    leaves: Vec<Leaf<T>>,
    rest: Vec<Leaf<T>>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            literals: HashMap::new(),
            one: None,
            leaves: Vec::new(),
            rest: Vec::new(),
        }
    }
}

/// All bindings of a gateway.
#[derive(Debug)]
pub(crate) struct Router<T> {
    root: Node<T>,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self {
            root: Node::default(),
        }
    }
}

/// What a look-up comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<T> {
    /// A binding and the values of its variables.
    Match(T, Vec<String>),
    /// The path is known, but not with this method; those it is known with.
    Methods(Vec<String>),
    /// Nobody knows the path.
    Nothing,
}

impl<T: Copy> Router<T> {
    /// Adds a binding; gives back the one that has the same place.
    pub(crate) fn add(&mut self, method: Option<&str>, template: &Template, value: T) -> Option<T> {
        let mut node = &mut self.root;
        let mut is_rest = false;
        for segment in &template.segments {
            match segment {
                Segment::Literal(literal) => {
                    node = node.literals.entry(literal.clone()).or_default()
                }
                Segment::One => node = node.one.get_or_insert_default(),
                Segment::Rest => is_rest = true,
            }
        }
        let leaves = if is_rest {
            &mut node.rest
        } else {
            &mut node.leaves
        };
        let same = |it: &&Leaf<T>| it.verb == template.verb && it.method.as_deref() == method;
        if let Some(known) = leaves.iter().find(same) {
            return Some(known.value);
        }
        leaves.push(Leaf {
            verb: template.verb.clone(),
            method: method.map(ToOwned::to_owned),
            template: template.clone(),
            value,
        });
        None
    }

    /// Looks a path up, as it stands in the request line, without its query.
    pub(crate) fn find(&self, method: &str, path: &str) -> Result<Found<T>, Malformed> {
        let path = path.strip_prefix('/').ok_or(Malformed)?;
        let segments: Vec<String> = path.split('/').map(ToOwned::to_owned).collect();
        if segments.len() > SEGMENTS_MAX {
            return Ok(Found::Nothing);
        }
        for segment in &segments {
            // Nothing here is a file, but a server behind may take a name for a path.
            if matches!(&*unescape(segment, true)?, "." | "..") {
                return Err(Malformed);
            }
        }
        let mut others = Vec::new();
        let split = segments.last().and_then(|it| it.rsplit_once(':'));
        if let Some((last, verb)) = split.map(|(last, verb)| (last.to_owned(), verb.to_owned())) {
            let mut without = segments.clone();
            if let Some(slot) = without.last_mut() {
                *slot = last;
            }
            let verb = unescape(&verb, true)?;
            let mut search = Search {
                method,
                verb: Some(&verb),
                path: &without,
                others: &mut others,
            };
            if let Some(leaf) = search.walk(&self.root, 0) {
                return Ok(Found::Match(leaf.value, leaf.template.captures(&without)?));
            }
        }
        let mut search = Search {
            method,
            verb: None,
            path: &segments,
            others: &mut others,
        };
        if let Some(leaf) = search.walk(&self.root, 0) {
            return Ok(Found::Match(leaf.value, leaf.template.captures(&segments)?));
        }
        if others.is_empty() {
            return Ok(Found::Nothing);
        }
        others.sort();
        others.dedup();
        Ok(Found::Methods(others))
    }
}

struct Search<'a> {
    method: &'a str,
    verb: Option<&'a str>,
    path: &'a [String],
    others: &'a mut Vec<String>,
}

impl Search<'_> {
    fn walk<'n, T>(&mut self, node: &'n Node<T>, at: usize) -> Option<&'n Leaf<T>> {
        let Some(segment) = self.path.get(at) else {
            return self.pick(&node.leaves).or_else(|| self.pick(&node.rest));
        };
        let literal = unescape(segment, true).unwrap_or_default();
        if let Some(next) = node.literals.get(&literal)
            && let Some(found) = self.walk(next, at + 1)
        {
            return Some(found);
        }
        // A variable takes something: `/things/` is not a thing without a name.
        if let Some(next) = node.one.as_deref().filter(|_| !segment.is_empty())
            && let Some(found) = self.walk(next, at + 1)
        {
            return Some(found);
        }
        // What begins with a slash is nobody's name either.
        let takes_rest = self.path.get(at).is_some_and(|it| !it.is_empty());
        if takes_rest {
            self.pick(&node.rest)
        } else {
            None
        }
    }

    fn pick<'n, T>(&mut self, leaves: &'n [Leaf<T>]) -> Option<&'n Leaf<T>> {
        let mine = leaves.iter().filter(|it| it.verb.as_deref() == self.verb);
        let mut any = None;
        for leaf in mine {
            match leaf.method.as_deref() {
                Some(method) if method == self.method => return Some(leaf),
                Some(method) => self.others.push(method.to_owned()),
                None => any = Some(leaf),
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn router() -> Router<usize> {
        let mut router = Router::default();
        for (at, text) in [
            "/v1/{a}",
            "/v1/{a=x/*/y/**}:z",
            "/v1/*/b",
            "/v1/{a=**}",
            "/**:q",
        ]
        .iter()
        .enumerate()
        {
            let template =
                Template::parse(text).unwrap_or_else(|why| unreachable!("{text}: {why}"));
            assert_eq!(router.add(Some("GET"), &template, at), None);
        }
        router
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_none(text in "[/{}=*:.a%0-9]{0,40}|.*") {
            drop(Template::parse(&text));
        }

        #[test]
        fn any_path_is_found_or_not(path in "(/|v1|x|y|%|%2F|%2f|[a-z:*.]|:z){0,40}|.*", query in ".*") {
            drop(router().find("GET", &path));
            drop(unescape_query(&query));
        }

        #[test]
        fn one_segment_of_any_text_comes_through_escaped(text in ".{1,20}") {
            prop_assume!(text != "." && text != "..");
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(router().find("GET", &format!("/v1/{escaped}")), Ok(Found::Match(0, vec![text])));
        }
    }

    #[test]
    fn a_template_of_the_same_shape_is_told_apart_by_its_method_only() {
        let mut router = router();
        let same = Template::parse("/v1/{other}").unwrap_or_else(|why| unreachable!("{why}"));
        assert_eq!(router.add(Some("GET"), &same, 9), Some(0));
        assert_eq!(router.add(Some("PUT"), &same, 9), None);
    }
}
