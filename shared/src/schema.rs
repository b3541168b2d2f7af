//! The JSON Schema of the message, for those who write to or read from the work queue in other
//! languages. Generated from the types, committed, and kept current by this test.

use std::{env, fs, path::Path};

use crate::Event;

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("message.schema.json");
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(Event)).expect("JSON") + "\n";
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, &schema).expect("written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema,
        "{} is out of date: UPDATE_SCHEMA=1 cargo test --package shared",
        path.display()
    );
}
