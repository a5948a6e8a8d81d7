//! What a call's messages look like on the command line: JSON, text or hexadecimal.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::de::DeserializeSeed as _;

use super::names;
use super::remote::undecodable;
use crate::failure::Failure;

/// How messages are written and shown.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// JSON as protobuf maps it.
    Json {
        /// The request's type.
        input: MessageDescriptor,
        /// The answer's type.
        output: MessageDescriptor,
        /// Show fields with their default value.
        defaults: bool,
        /// Show an answer on several lines.
        pretty: bool,
    },
    /// Bytes as they are.
    Raw,
    /// Bytes in hexadecimal.
    Hex,
}

impl Form {
    /// All messages in a text; `place` names it in errors.
    pub(crate) fn parse(&self, text: &str, place: &str) -> Result<Vec<Vec<u8>>, Failure> {
        match self {
            Self::Json { input, .. } => json(text, place, input),
            Self::Raw => Ok(vec![text.as_bytes().to_vec()]),
            Self::Hex => {
                Ok(vec![hex(text).map_err(|why| {
                    Failure::Usage(format!("{place}: {why}"))
                })?])
            }
        }
    }

    /// An answer for a person or a script, without the end of its line.
    pub(crate) fn show(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        match self {
            Self::Raw => Ok(bytes.to_vec()),
            Self::Hex => Ok(to_hex(bytes).into_bytes()),
            Self::Json {
                output,
                defaults,
                pretty,
                ..
            } => {
                let message = DynamicMessage::decode(output.clone(), bytes)
                    .map_err(|error| undecodable(name, &error))?;
                let text = to_json(&message, *defaults, *pretty);
                text.map_err(|error| undecodable(name, &error))
            }
        }
    }
}

/// A message as JSON.
pub(crate) fn to_json(
    message: &DynamicMessage,
    defaults: bool,
    pretty: bool,
) -> Result<Vec<u8>, serde_json::Error> {
    let options = SerializeOptions::new().skip_default_fields(!defaults);
    let mut text = Vec::new();
    if pretty {
        let mut out = serde_json::Serializer::pretty(&mut text);
        message.serialize_with_options(&mut out, &options)?;
    } else {
        let mut out = serde_json::Serializer::new(&mut text);
        message.serialize_with_options(&mut out, &options)?;
    }
    Ok(text)
}

fn json(text: &str, place: &str, input: &MessageDescriptor) -> Result<Vec<Vec<u8>>, Failure> {
    let mut messages = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    loop {
        if reader.end().is_ok() {
            return Ok(messages);
        }
        match input.clone().deserialize(&mut reader) {
            Ok(message) => messages.push(message.encode_to_vec()),
            Err(error) => return Err(wrong_json(&error, place, input)),
        }
    }
}

fn wrong_json(error: &serde_json::Error, place: &str, input: &MessageDescriptor) -> Failure {
    let text = error.to_string();
    // serde_json names line and column at the end.
    let hint = match unknown_field(&text) {
        Some(field) => {
            let fields: Vec<String> = input.fields().map(|it| it.json_name().to_owned()).collect();
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            names::sentence(field, &fields)
        }
        None => String::new(),
    };
    let name = input.full_name();
    Failure::Usage(format!("{place}: no {name}: {text}{hint}"))
}

fn unknown_field(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("unrecognized field name '")?;
    rest.split_once('\'').map(|(field, _)| field)
}

/// Bytes from hexadecimal digits; spaces and a leading 0x do not count.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|it| !it.is_whitespace()).collect();
    let digits = match digits.as_slice() {
        ['0', 'x' | 'X', rest @ ..] => rest,
        all => all,
    };
    let wrong =
        |at: usize, digit: char| format!("`{digit}` at digit {} is not hexadecimal", at + 1);
    if !digits.len().is_multiple_of(2) {
        return Err(format!(
            "{} hexadecimal digits are no whole bytes",
            digits.len()
        ));
    }
    let mut values = Vec::with_capacity(digits.len());
    for (at, digit) in digits.iter().enumerate() {
        let value = digit.to_digit(16).and_then(|it| u8::try_from(it).ok());
        values.push(value.ok_or_else(|| wrong(at, *digit))?);
    }
    let pairs = values.chunks_exact(2);
    Ok(pairs
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect())
}

/// Bytes as hexadecimal digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways_and_bad_digits_are_named() {
        assert_eq!(hex("0x00 ff\n7A").unwrap(), [0, 255, 0x7A]);
        assert_eq!(to_hex(&[0, 255, 0x7A]), "00ff7a");
        assert!(hex("").unwrap().is_empty());
        assert!(hex("123").unwrap_err().contains("3 hexadecimal digits"));
        assert!(hex("1g").unwrap_err().contains("`g` at digit 2"));
    }

    #[test]
    fn json_may_hold_several_messages_and_errors_name_the_place() {
        let input = DescriptorPool::global().get_message_by_name("google.protobuf.EnumValue");
        let input = input.unwrap();
        let parse = |text| json(text, "DATA 1", &input);
        let messages = parse("{\"name\": \"a\"}\n{\"number\": 7} {}").unwrap();
        assert_eq!(messages, [vec![10, 1, b'a'], vec![16, 7], vec![]]);
        assert!(parse("  ").unwrap().is_empty());
        for (text, parts) in [
            (
                "{\"nmae\": 1}",
                [
                    "DATA 1: no google.protobuf.EnumValue",
                    "did you mean `name`",
                ],
            ),
            ("{\"number\": \"x\"}", ["line 1", "column"]),
            ("{}\n{\"name\": 1", ["line 2", "column"]),
            ("nonsense", ["line 1", "column"]),
        ] {
            let failure = parse(text).unwrap_err().to_string();
            for part in parts {
                assert!(failure.contains(part), "{part} in {failure}");
            }
        }
    }
}
