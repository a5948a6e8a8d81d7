//! The layout of a plain struct, and its fingerprint, as `#[ringway::message]` has them.
//!
//! The fingerprint is `layout_hash` of `ringway-rpc`, which a build script can't depend on. That both are the same is
//! tested by a call from C (`bindings/c/tests/programs.rs`): ends that differ refuse each other.

/// What one field is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    /// A number, by its name in C.
    Number(&'static str),
    Struct(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Its name in C.
    pub(crate) name: String,
    /// Its name in Rust, which may be a raw one.
    pub(crate) label: String,
    /// As the Rust source writes it.
    pub(crate) kind: String,
    pub(crate) scalar: Scalar,
    /// Of arrays, the outermost first.
    pub(crate) lengths: Vec<usize>,
    pub(crate) offset: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) size: usize,
    pub(crate) align: usize,
    pub(crate) hash: u32,
}

/// Numbers: in Rust, in C, bytes.
const NUMBERS: &[(&str, &str, usize)] = &[
    ("u8", "uint8_t", 1),
    ("u16", "uint16_t", 2),
    ("u32", "uint32_t", 4),
    ("u64", "uint64_t", 8),
    ("i8", "int8_t", 1),
    ("i16", "int16_t", 2),
    ("i32", "int32_t", 4),
    ("i64", "int64_t", 8),
    ("f32", "float", 4),
    ("f64", "double", 8),
];

/// A number's name in C, and its bytes.
pub(crate) fn number(rust: &str) -> Option<(&'static str, usize)> {
    let found = NUMBERS.iter().find(|(name, ..)| *name == rust);
    found.map(|(_, c, bytes)| (*c, *bytes))
}

impl Struct {
    /// Places the fields one behind the other. `known`: the structs that they may be made of.
    pub(crate) fn placed(
        name: String,
        mut fields: Vec<Field>,
        align: usize,
        known: &[Self],
    ) -> Result<Self, String> {
        let (mut end, mut widest) = (0_usize, align.max(1));
        let mut hashed = Vec::new();
        for field in &mut fields {
            let (size, align, inner) = match &field.scalar {
                Scalar::Number(c) => {
                    let bytes = NUMBERS.iter().find(|(_, name, _)| name == c);
                    let bytes = bytes.map_or(1, |(.., bytes)| *bytes);
                    (bytes, bytes, None)
                }
                Scalar::Struct(other) => {
                    let of = known.iter().find(|it| it.name == *other).ok_or_else(|| {
                        format!(
                            "`{name}.{}`: `{other}` is no `#[ringway::message]` of this file; define it here too",
                            field.name
                        )
                    })?;
                    (of.size, of.align, Some(of.hash))
                }
            };
            if !end.is_multiple_of(align) {
                return Err(padded(&name));
            }
            field.offset = end;
            hashed.push((field.label.clone(), field.kind.clone(), end));
            if let Some(hash) = inner {
                hashed.push((field.label.clone(), "layout".to_owned(), hash as usize));
            }
            let whole = field
                .lengths
                .iter()
                .try_fold(size, |all, len| all.checked_mul(*len));
            end = whole
                .and_then(|whole| end.checked_add(whole))
                .ok_or_else(|| format!("`{name}` is larger than memory can be"))?;
            widest = widest.max(align);
        }
        if end == 0 || !end.is_multiple_of(widest) {
            return Err(padded(&name));
        }
        let hash = layout_hash(&name, end, &hashed);
        Ok(Self {
            name,
            fields,
            size: end,
            align: widest,
            hash,
        })
    }
}

fn padded(name: &str) -> String {
    format!(
        "`{name}` has padding or no fields: order them from the largest to the smallest, and fill its end with a field \
         like `_unused: [u8; 4]`"
    )
}

/// The fingerprint of a method with plain structs.
pub(crate) fn method_hash(request: u32, response: u32) -> u32 {
    let entry = |name: &str, hash: u32| (name.to_owned(), String::new(), hash as usize);
    layout_hash(
        "",
        0,
        &[entry("request", request), entry("response", response)],
    )
}

/// FNV-1a over name, size, and each field's name, type and offset; never 0.
pub(crate) fn layout_hash(name: &str, size: usize, fields: &[(String, String, usize)]) -> u32 {
    let mut hash = number_hash(text_hash(0x811C_9DC5, name), size);
    for (field, kind, offset) in fields {
        hash = number_hash(text_hash(text_hash(hash, field), kind), *offset);
    }
    if hash == 0 { 1 } else { hash }
}

fn mixed(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

fn text_hash(hash: u32, text: &str) -> u32 {
    let bytes = text.bytes().filter(|byte| *byte != b' ');
    mixed(bytes.fold(hash, mixed), 0xFF)
}

fn number_hash(mut hash: u32, number: usize) -> u32 {
    let mut left = number;
    while left > 0 {
        hash = mixed(hash, left.to_le_bytes()[0]);
        left >>= 8;
    }
    mixed(hash, 0xFE)
}
