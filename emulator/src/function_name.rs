//! The names by which requests name a function.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

use crate::api_error::ApiError;
use crate::settings::{ACCOUNT_ID, REGION};

/// `NamespacedFunctionName` of AWS's API model: a name, a partial or a full ARN, each with or without
/// a qualifier.
const NAME: &str = concat!(
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?",
    r"(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
);
const MAX_NAME: usize = 256;

/// `NumericLatestPublishedOrAliasQualifier` of AWS's API model.
const QUALIFIER: &str = r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+";
const MAX_QUALIFIER: usize = 128;

/// What a request names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FunctionName {
    /// Without account and Region.
    pub(crate) name: String,
    pub(crate) qualifier: Option<String>,
}

impl FunctionName {
    /// Reads the name in a request's path and the qualifier in its query. `action` is what the caller
    /// needs permission for.
    pub(crate) fn read(name: &str, query: &str, action: &str) -> Result<Self, ApiError> {
        let query = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "Qualifier");
        let query = query.map(|(_, value)| value.into_owned());
        let query = query.filter(|qualifier| !qualifier.is_empty());
        let parts = validated(name, query.as_deref())?;
        let part = |group| Some(parts.get(group)?.as_str().trim_end_matches(':'));
        let (region, account, qualifier) = (part(3), part(9), part(13));
        if let Some(region) = region.filter(|region| *region != REGION) {
            return Err(ApiError::not_found(format!(
                "Functions from '{region}' are not reachable in this region ('{REGION}')"
            )));
        }
        if account.is_some_and(|account| account != ACCOUNT_ID) {
            return Err(ApiError::access_denied(action, name));
        }
        if let (Some(one), Some(other)) = (qualifier, &query)
            && one != other
        {
            return Err(ApiError::invalid_parameter(
                "The derived qualifier from the function name does not match the specified \
                 qualifier.",
            ));
        }
        Ok(Self {
            name: part(11).unwrap_or_default().to_owned(),
            qualifier: qualifier.map(str::to_owned).or(query),
        })
    }
}

/// Checks a name and a qualifier against AWS's API model. Returns the parts of the name.
fn validated<'a>(name: &'a str, qualifier: Option<&str>) -> Result<Captures<'a>, ApiError> {
    static NAME_REGEX: LazyLock<Regex> = LazyLock::new(|| whole(NAME));
    static QUALIFIER_REGEX: LazyLock<Regex> = LazyLock::new(|| whole(QUALIFIER));
    let parts = NAME_REGEX.captures(name);
    let mut violations = Vec::new();
    let mut check = |value: &str, member: &str, max: usize, pattern: &str, matches: bool| {
        let mut violate = |constraint: String| {
            violations.push(format!(
                "Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"
            ));
        };
        if value.len() > max {
            violate(format!(
                "Member must have length less than or equal to {max}"
            ));
        }
        if !matches {
            violate(format!(
                "Member must satisfy regular expression pattern: {pattern}"
            ));
        }
    };
    check(name, "functionName", MAX_NAME, NAME, parts.is_some());
    if let Some(qualifier) = qualifier {
        let matches = QUALIFIER_REGEX.is_match(qualifier);
        check(qualifier, "qualifier", MAX_QUALIFIER, QUALIFIER, matches);
    }
    match parts {
        Some(parts) if violations.is_empty() => Ok(parts),
        _ => Err(ApiError::validation(&violations)),
    }
}

/// # Panics
///
/// If the pattern is invalid.
fn whole(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).expect("the pattern is valid")
}
