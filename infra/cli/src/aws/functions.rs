use aws_sdk_lambda::primitives::Blob;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::Stack;
use crate::failure::Failure;

/// What Lambda answers in place of a function that failed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionError {
    #[serde(default)]
    error_message: String,
}

impl Stack {
    /// Has a function answer a request. It may take as long as the function may.
    pub(crate) async fn invoke<T: DeserializeOwned>(
        &self,
        function: &'static str,
        request: &Value,
    ) -> Result<T, Failure> {
        let name = self.output(function)?;
        let answer = self
            .lambda
            .invoke()
            .function_name(name)
            .payload(Blob::new(request.to_string()))
            .send()
            .await
            .map_err(Failure::of("lambda:InvokeFunction"))?;
        let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
        if answer.function_error.is_some() {
            let error: FunctionError = serde_json::from_slice(&payload)
                .unwrap_or_else(|_| FunctionError { error_message: "no reason was given".into() });
            return Err(Failure::Function { name: name.to_owned(), message: error.error_message });
        }
        serde_json::from_slice(&payload)
            .map_err(|error| Failure::Unreadable { of: function, why: error.to_string() })
    }
}
