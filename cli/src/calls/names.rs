//! Names that a person may have meant.

/// Most names that are shown.
const SHOWN_MAX: usize = 8;
/// Longest name that is compared; the rest of a longer one does not count.
const COMPARED_MAX: usize = 256;

/// The names nearest to `wanted`, best first; all of them (some, if they are many) when none is near.
pub(crate) fn near<'a>(wanted: &str, names: &[&'a str]) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let mut rated: Vec<(Option<usize>, &str)> = Vec::new();
    for name in names {
        rated.push((rate(&wanted, &name.to_lowercase()), name));
    }
    rated.sort_by_key(|(far, name)| (far.unwrap_or(usize::MAX), *name));
    // Beside a very near one, the others only confuse.
    let best = rated.first().and_then(|(far, _)| *far);
    let shown = rated
        .into_iter()
        .filter(|(far, _)| best.is_none_or(|best| far.is_some_and(|far| far <= best + 1)));
    shown.map(|(_, name)| name).take(SHOWN_MAX).collect()
}

/// How far a name is from the wanted one; `None`: too far.
fn rate(wanted: &str, name: &str) -> Option<usize> {
    let whole = distance(wanted, name);
    if whole <= name.len() / 4 {
        return Some(whole);
    }
    // `Get` instead of `kv.KeyValue/Get`, or the right method of a wrong service.
    let tail = |name: &str| name.rsplit(['/', '.']).next().unwrap_or("").to_owned();
    let (wanted, name) = (tail(wanted), tail(name));
    let far = distance(&wanted, &name);
    (far <= name.len() / 3).then_some(1 + far)
}

/// A sentence that lists them; empty if there are none.
pub(crate) fn sentence(wanted: &str, names: &[&str]) -> String {
    match near(wanted, names).as_slice() {
        [] => String::new(),
        [one] => format!("; did you mean `{one}`?"),
        many => format!("; there are `{}`", many.join("`, `")),
    }
}

/// How many letters have to be changed, added, taken away, or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| text.chars().take(COMPARED_MAX).collect::<Vec<char>>();
    let (one, other) = (letters(one), letters(other));
    // The rows of the table so far; the last one is the whole of `one` up to here.
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    let cell = |row: Option<&Vec<usize>>, at: usize| {
        let known = row.and_then(|row| row.get(at)).copied();
        known.unwrap_or(usize::MAX - 1)
    };
    for (index, letter) in one.iter().enumerate() {
        let mut row = vec![index + 1];
        for (at, theirs) in other.iter().enumerate() {
            let above = rows.last();
            let changed = cell(above, at) + usize::from(letter != theirs);
            let added = cell(above, at + 1).min(cell(Some(&row), at)) + 1;
            let neighbours = (index.checked_sub(1), at.checked_sub(1));
            let swapped = match neighbours {
                (Some(i), Some(j))
                    if one.get(i) == Some(theirs) && other.get(j) == Some(letter) =>
                {
                    cell(rows.get(i), j) + 1
                }
                _ => usize::MAX,
            };
            row.push(changed.min(added).min(swapped));
        }
        rows.push(row);
    }
    cell(rows.last(), other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_slips_of_a_typist() {
        for (one, other, far) in [
            ("", "", 0),
            ("kitten", "sitting", 3),
            ("a", "", 1),
            ("", "ab", 2),
        ] {
            assert_eq!(distance(one, other), far, "{one} {other}");
        }
    }

    #[test]
    fn near_names_come_first_and_all_when_none_is_near() {
        let names = ["kv.KeyValue/Get", "kv.KeyValue/Put", "kv.KeyValue/Watch"];
        assert_eq!(near("kv.KeyValue/Gte", &names)[0], names[0]);
        assert_eq!(near("watch", &names), [names[2]]);
        assert_eq!(near("something/Else", &names).len(), 3);
        assert_eq!(sentence("x", &[]), "");
    }
}
