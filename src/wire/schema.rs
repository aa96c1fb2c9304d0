//! JSON Schemas of the headers, generated from the message types.

use crate::wire::{JoinAnswer, JoinRequest, Request, Response};
use schemars::transform::{Transform, transform_subschemas};
use schemars::{Schema, generate::SchemaSettings};

/// Writes the bound of an unsigned format into the schema: the format alone is only an annotation.
#[derive(Clone)]
struct Bounds;

impl Transform for Bounds {
    fn transform(&mut self, schema: &mut Schema) {
        let bound = match schema.get("format").and_then(|format| format.as_str()) {
            Some("uint16") => Some(u64::from(u16::MAX)),
            Some("uint32") => Some(u64::from(u32::MAX)),
            Some("uint64") => Some(u64::MAX),
            _ => None,
        };
        if let Some(bound) = bound
            && schema.get("maximum").is_none()
        {
            schema.insert("maximum".to_owned(), bound.into());
        }
        transform_subschemas(self, schema);
    }
}

/// The schemas by file name, as they are committed under `docs/protocol/`.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Schema)> {
    let generator = || {
        SchemaSettings::draft2020_12()
            .with_transform(Bounds)
            .into_generator()
    };
    vec![
        (
            "request.schema.json",
            generator().into_root_schema_for::<Request>(),
        ),
        (
            "response.schema.json",
            generator().into_root_schema_for::<Response>(),
        ),
        (
            "join-request.schema.json",
            generator().into_root_schema_for::<JoinRequest>(),
        ),
        (
            "join-answer.schema.json",
            generator().into_root_schema_for::<JoinAnswer>(),
        ),
    ]
}
