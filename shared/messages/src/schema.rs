//! The JSON Schema of the message, for those who write to or read from the work queue in other
//! languages. Generated from the types, committed, and kept current by this test.

use std::{env, fs, path::Path};

use serde_json::Value;

use crate::Event;

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("message.schema.json");
    let schema = schemars::schema_for!(Event).to_value();
    if env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, format!("{schema:#}\n")).expect("written");
    }
    // Not as text: the order of the fields depends on what else is built beside this crate.
    let committed = fs::read(&path).unwrap_or_default();
    let committed: Value = serde_json::from_slice(&committed).unwrap_or_default();
    assert!(
        committed == schema,
        "{} is out of date: UPDATE_SCHEMA=1 cargo test --workspace --lib schema",
        path.display()
    );
}
