//! Inputs from a fuzzer: samples with some of their bytes changed, cut, doubled or nested. By itself
//! some ten thousand; `BOLERO_RANDOM_ITERATIONS` or `cargo bolero` give more.

use std::sync::LazyLock;

use bolero::{TypeGenerator, check, generator::produce_with};

use super::*;

static SAMPLES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let files = std::fs::read_dir(folder).expect("a folder");
    let mut samples: Vec<String> = files
        .map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("text"))
        .collect();
    samples.sort();
    samples
});

#[derive(Debug, TypeGenerator)]
enum Edit {
    Set { at: u16, byte: u8 },
    Token { at: u16, token: u8 },
    Cut { at: u16, length: u8 },
    Double { at: u16, length: u8 },
    Nest { envelope: u8 },
}

const TOKENS: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "-1e999",
    "\\u0000",
    "\\ud800",
    "%FF",
    "+",
    "\u{FFFF}",
    "\"Records\"",
    "\"specversion\"",
];

#[derive(Debug, TypeGenerator)]
struct Input {
    sample: u8,
    #[generator(produce_with::<Vec<Edit>>().len(0_usize..8))]
    edits: Vec<Edit>,
}

impl Input {
    fn body(&self) -> String {
        let mut body = SAMPLES[usize::from(self.sample) % SAMPLES.len()].clone().into_bytes();
        for edit in &self.edits {
            let place = |at: u16| usize::from(at) % (body.len() + 1);
            match *edit {
                Edit::Set { at, byte } => {
                    let at = place(at);
                    if let Some(old) = body.get_mut(at) {
                        *old = byte;
                    }
                }
                Edit::Token { at, token } => {
                    let (at, token) = (place(at), TOKENS[usize::from(token) % TOKENS.len()]);
                    body.splice(at..at, token.bytes());
                }
                Edit::Cut { at, length } => {
                    let at = place(at);
                    let end = (at + usize::from(length)).min(body.len());
                    body.drain(at..end);
                }
                Edit::Double { at, length } => {
                    let at = place(at);
                    let end = (at + usize::from(length)).min(body.len());
                    body.extend_from_within(at..end);
                }
                Edit::Nest { envelope } => {
                    let inner = String::from_utf8_lossy(&body).into_owned();
                    let nested = match envelope % 4 {
                        0 => format!(r#"{{"requestPayload":{inner}}}"#),
                        1 => json!({ "TopicArn": "t", "Message": inner }).to_string(),
                        2 => format!(r#"{{"failedExecution":{{}},"event":{inner}}}"#),
                        _ => json!({ "Records": [{ "eventSource": "aws:sqs", "body": inner }] })
                            .to_string(),
                    };
                    body = nested.into_bytes();
                }
            }
        }
        String::from_utf8_lossy(&body).into_owned()
    }
}

#[test]
fn fuzz_the_decoder() {
    check!().with_type::<Input>().with_iterations(10_000).for_each(|input| {
        for event in decode(&input.body()) {
            match event {
                Ok(event) => {
                    let message = event.to_json().expect("JSON");
                    assert_eq!(decode(&message), [Ok(event)]);
                }
                Err(error) => assert!(!error.problem.is_empty(), "{error}"),
            }
        }
    });
}
