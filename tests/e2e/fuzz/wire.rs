//! Requests made from the contract's descriptors: bytes that are a message of a type, mostly, with values that are good,
//! past a limit, or nonsense; and now and then bytes that are no message at all.

use std::collections::HashMap;

use ::mesh::proto::DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    field_descriptor_proto::{Label, Type},
};
use rand::{RngExt as _, rngs::StdRng};
use uuid::Uuid;

/// The deepest that messages are nested: deeper than anything that is taken, and less than what decoding allows.
const DEPTH_MAX: usize = 40;

/// All of the contract.
pub(super) struct Contract {
    messages: HashMap<String, DescriptorProto>,
    /// Each call with the path of its service.
    pub(super) methods: Vec<(String, MethodDescriptorProto)>,
    /// Texts that mean something: ids of rooms and users, cursors.
    pub(super) known: Vec<String>,
}

impl Contract {
    pub(super) fn new(known: Vec<String>) -> Self {
        let files = FileDescriptorSet::decode(DESCRIPTOR_SET).expect("the descriptors of this build").file;
        let mut contract = Self { messages: HashMap::new(), methods: Vec::new(), known };
        for file in files {
            let package = format!(".{}", file.package());
            for service in &file.service {
                let path = format!("{}.{}", file.package(), service.name());
                contract.methods.extend(service.method.iter().map(|method| (path.clone(), method.clone())));
            }
            file.message_type.into_iter().for_each(|message| contract.add(&package, message));
        }
        contract
    }

    fn add(&mut self, within: &str, message: DescriptorProto) {
        let name = format!("{within}.{}", message.name());
        message.nested_type.iter().for_each(|nested| self.add(&name, nested.clone()));
        self.messages.insert(name, message);
    }

    /// Bytes for a call that takes this type.
    pub(super) fn request(&self, chances: &mut StdRng, kind: &str) -> Vec<u8> {
        let mut bytes = self.message(chances, kind, DEPTH_MAX);
        if chances.random_bool(0.15) {
            bytes = test_input::bytes(&[bytes], &super::edits(chances));
        }
        bytes
    }

    fn message(&self, chances: &mut StdRng, kind: &str, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some(message) = self.messages.get(kind) else { return bytes };
        for field in &message.field {
            let times = match field.label() {
                Label::Repeated => chances.random_range(0..4),
                Label::Optional | Label::Required => u32::from(chances.random_bool(0.8)),
            };
            for _ in 0..times {
                self.field(chances, field, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(&self, chances: &mut StdRng, field: &FieldDescriptorProto, depth: usize, out: &mut Vec<u8>) {
        let number = u64::from(field.number().unsigned_abs());
        match field.r#type() {
            Type::Message | Type::Group if depth == 0 || (depth < DEPTH_MAX - 3 && chances.random_bool(0.6)) => {}
            Type::Message | Type::Group => {
                piece(out, number, &self.message(chances, field.type_name(), depth - 1));
            }
            Type::String => {
                let text = self.text(chances, field.name());
                piece(out, number, text.as_bytes());
            }
            Type::Bytes => piece(out, number, &chances.random::<[u8; 16]>()),
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                varint(out, number << 3 | 1);
                let value = if chances.random_bool(0.2) { f64::NAN } else { f64::from(chances.random::<i32>()) };
                out.extend(value.to_le_bytes());
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                varint(out, number << 3 | 5);
                out.extend(chances.random::<u32>().to_le_bytes());
            }
            Type::Int64
            | Type::Uint64
            | Type::Int32
            | Type::Uint32
            | Type::Bool
            | Type::Enum
            | Type::Sint32
            | Type::Sint64 => {
                varint(out, number << 3);
                varint(
                    out,
                    match chances.random_range(0..4) {
                        0 => chances.random(),
                        1 => u64::MAX,
                        _ => chances.random_range(0..5),
                    },
                );
            }
        }
    }

    fn text(&self, chances: &mut StdRng, name: &str) -> String {
        let known = |chances: &mut StdRng| self.known[chances.random_range(0..self.known.len())].clone();
        match chances.random_range(0..10) {
            0 => String::new(),
            1 => test_input::text(&self.known, &super::edits(chances)),
            2 => "x".repeat(chances.random_range(0..20_000)),
            3 => "a\0b".to_owned(),
            4 if name == "paths" => "*".to_owned(),
            _ if name == "paths" => {
                const PATHS: [&str; 8] =
                    ["name", "description", "username", "first_name", "last_name", "bio", "avatar_url", "preferences"];
                PATHS[chances.random_range(0..PATHS.len())].to_owned()
            }
            _ if name.ends_with("id") || name.ends_with("ids") || name == "cursor" => {
                match chances.random_range(0..4) {
                    0 => Uuid::from_u128(chances.random()).to_string(),
                    _ => known(chances),
                }
            }
            _ if name == "email" => format!("{}@example.com", chances.random::<u32>()),
            _ => format!("{name} {}", chances.random::<u16>()),
        }
    }
}

fn varint(out: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, out);
}

/// A field of some length.
fn piece(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}
