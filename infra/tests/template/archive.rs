//! The table over the archive has the columns that the documents have.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::functions;
use crate::template::{processed, text};

/// What the `SerDe` calls a column in the documents.
fn key_of<'t>(column: &'t str, serde: &'t Value) -> &'t str {
    serde[format!("mapping.{column}")].as_str().unwrap_or(column)
}

#[tokio::test]
async fn the_columns_of_the_table_are_the_fields_of_a_document() {
    let template = processed().await;
    let table = &template["Resources"]["DeadLetterTable"]["Properties"]["TableInput"];
    let storage = &table["StorageDescriptor"];
    let serde = &storage["SerdeInfo"]["Parameters"];
    let columns = storage["Columns"].as_array().unwrap();
    let keys: BTreeSet<&str> =
        columns.iter().map(|column| key_of(column["Name"].as_str().unwrap(), serde)).collect();

    let mut documents = functions::run().await.documents;
    documents.retain(|path, _| path.starts_with("dead-letters/"));
    assert_eq!(documents.len(), 1, "{documents:#?}");
    for (path, document) in &documents {
        // To the SerDe, a line is a document.
        assert_eq!(document.lines().count(), 1, "{document}");
        let document: Value = serde_json::from_str(document).unwrap();
        // An empty list would fit any type.
        assert!(document["events"].as_array().is_some_and(|events| !events.is_empty()));
        let written: BTreeSet<&str> =
            document.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, written);

        for column in columns {
            let name = column["Name"].as_str().unwrap();
            let value = &document[key_of(name, serde)];
            let kind = column["Type"].as_str().unwrap();
            assert!(fits(value, kind), "{name} is {kind}, but written as {value}");
        }

        let date = path.split('/').find_map(|part| part.strip_prefix("date=")).unwrap();
        assert_eq!(table["PartitionKeys"][0]["Name"], "date");
        let projection = &table["Parameters"];
        let format = projection["projection.date.format"].as_str().unwrap();
        assert_eq!(format, "yyyy-MM-dd");
        assert_eq!(date.len(), format.len(), "{date}");
        let location = text(&projection["storage.location.template"]["Fn::Sub"]);
        assert_eq!(location, "s3://${ArchiveBucket}/dead-letters/date=${!date}/");
    }
}

/// Whether a value is of a Hive type, with all the fields that the type names.
fn fits(value: &Value, kind: &str) -> bool {
    let inner = |prefix: &str| kind.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(element) = inner("array<") {
        let values = value.as_array();
        return values.is_some_and(|values| values.iter().all(|value| fits(value, element)));
    }
    if let Some(entry) = inner("map<string,") {
        let values = value.as_object();
        return values.is_some_and(|v| !v.is_empty() && v.values().all(|v| fits(v, entry)));
    }
    if let Some(fields) = inner("struct<") {
        return split(fields).into_iter().all(|field| {
            let (name, kind) = field.split_once(':').unwrap();
            value.get(name).is_some_and(|value| fits(value, kind))
        });
    }
    match kind {
        "string" => value.is_string(),
        "int" | "bigint" => value.is_u64(),
        "boolean" => value.is_boolean(),
        other => panic!("{other} is no type that this test knows"),
    }
}

/// At the commas that are in no brackets.
fn split(fields: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, character) in fields.char_indices() {
        match character {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&fields[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&fields[begin..]);
    parts
}
