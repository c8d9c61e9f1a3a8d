//! Errors of the Lambda API, in the shapes of AWS's API model.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::warn;
use uuid::Uuid;

use crate::http::{AMZN_REQUEST_ID, header_value, json_response};
use crate::invocation::InvokeError;
use crate::logs::one_line;
use crate::settings::arn;

const AMZN_ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// An error of the Lambda API.
#[derive(Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) error_type: &'static str,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, error_type: &'static str, message: String) -> Self {
        Self {
            status,
            error_type,
            message,
        }
    }

    pub(crate) fn invalid_parameter(message: impl Into<String>) -> Self {
        let error_type = "InvalidParameterValueException";
        Self::new(StatusCode::BAD_REQUEST, error_type, message.into())
    }

    /// Some members violate constraints of the API model.
    pub(crate) fn validation(violations: &[String]) -> Self {
        let count = violations.len();
        let plural = if count == 1 { "" } else { "s" };
        let violations = violations.join("; ");
        let message = format!("{count} validation error{plural} detected: {violations}");
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    pub(crate) fn not_found(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFoundException", message)
    }

    pub(crate) fn function_not_found(name: &str, qualifier: Option<&str>) -> Self {
        Self::not_found(format!("Function not found: {}", arn(name, qualifier)))
    }

    pub(crate) fn forbidden(message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDeniedException", message)
    }

    pub(crate) fn unknown_operation(status: StatusCode, message: String) -> Self {
        Self::new(status, "UnknownOperationException", message)
    }
}

/// What a member violates, for [`ApiError::validation`].
pub(crate) fn violation(value: &str, member: &str, constraint: &str) -> String {
    format!("Value '{value}' at '{member}' failed to satisfy constraint: {constraint}")
}

impl From<InvokeError> for ApiError {
    fn from(error: InvokeError) -> Self {
        let (status, error_type) = match error {
            InvokeError::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException")
            }
            InvokeError::InvalidRequestContent(_) => {
                (StatusCode::BAD_REQUEST, "InvalidRequestContentException")
            }
            InvokeError::RequestTooLarge(_) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException")
            }
            InvokeError::Terminated => (StatusCode::INTERNAL_SERVER_ERROR, "ServiceException"),
        };
        Self::new(status, error_type, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, error_type, message) = (self.status, self.error_type, self.message);
        // AWS's model spells the message in two ways, and not every error has a type.
        let body = match error_type {
            "ServiceException" => json!({ "Type": "Service", "Message": message }),
            "ResourceNotFoundException" => json!({ "Type": "User", "Message": message }),
            "AccessDeniedException" => json!({ "Message": message }),
            "ValidationException" => json!({ "message": message }),
            "TooManyRequestsException" => json!({
                "Reason": "ConcurrentInvocationLimitExceeded",
                "Type": "User",
                "message": message,
            }),
            _ => json!({ "Type": "User", "message": message }),
        };
        // Throttling is normal, and can hit thousands of callers at once: do not log it.
        if status != StatusCode::TOO_MANY_REQUESTS {
            let message = one_line(&message);
            warn!("Lambda API: {} {error_type}: {message}", status.as_u16());
        }
        let headers = [
            (AMZN_REQUEST_ID, header_value(Uuid::new_v4())),
            (AMZN_ERROR_TYPE, HeaderValue::from_static(error_type)),
        ];
        (status, headers, json_response(&body)).into_response()
    }
}
