//! The names by which requests name a function.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery};

use crate::api_error::{ApiError, violation};
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
pub(crate) struct FunctionName {
    /// Without account and Region.
    pub(crate) name: String,
    pub(crate) qualifier: Option<String>,
}

impl FunctionName {
    /// Reads the name in a request's path and the qualifier in its query, and checks them against AWS's
    /// API model. `action` is what the caller needs permission for.
    pub(crate) fn read(
        given: Result<Path<String>, PathRejection>,
        RawQuery(query): RawQuery,
        action: &str,
    ) -> Result<Self, ApiError> {
        // A name that is not UTF-8 violates the pattern, as an empty one does.
        let given = &*given.map(|Path(given)| given).unwrap_or_default();
        let query = query.unwrap_or_default();
        let query = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "Qualifier");
        let query = query.map(|(_, value)| value.into_owned());
        let query = query.filter(|qualifier| !qualifier.is_empty());
        let parts = parts(given);
        let mut violations = violations("functionName", given, MAX_NAME, NAME, parts.is_some());
        if let Some(query) = &query {
            let matches = consists_of(query, "-_$") || is_version(query);
            let wrong = self::violations("qualifier", query, MAX_QUALIFIER, QUALIFIER, matches);
            violations.extend(wrong);
        }
        let Some(parts) = parts.filter(|_| violations.is_empty()) else {
            return Err(ApiError::validation(&violations));
        };
        if let Some(region) = parts.region.filter(|region| *region != REGION) {
            return Err(ApiError::not_found(format!(
                "Functions from '{region}' are not reachable in this region ('{REGION}')"
            )));
        }
        if parts.account.is_some_and(|account| account != ACCOUNT_ID) {
            return Err(ApiError::forbidden(format!(
                "User: arn:aws:iam::{ACCOUNT_ID}:user/local is not authorized to perform: {action} on \
                 resource: {given} because no resource-based policy allows the {action} action"
            )));
        }
        let qualifier = parts.qualifier.map(str::to_owned);
        if qualifier.is_some() && query.is_some() && qualifier != query {
            return Err(ApiError::invalid_parameter(
                "The derived qualifier from the function name does not match the specified \
                 qualifier.",
            ));
        }
        Ok(Self {
            name: parts.name.to_owned(),
            qualifier: qualifier.or(query),
        })
    }
}

/// What a value violates that may have `max` bytes, and must match a pattern.
fn violations(member: &str, value: &str, max: usize, pattern: &str, matches: bool) -> Vec<String> {
    let mut constraints = Vec::new();
    if value.len() > max {
        let constraint = format!("Member must have length less than or equal to {max}");
        constraints.push(violation(value, member, &constraint));
    }
    if !matches {
        let constraint = format!("Member must satisfy regular expression pattern: {pattern}");
        constraints.push(violation(value, member, &constraint));
    }
    constraints
}

/// The parts of a name, an ARN or a part of one.
struct Parts<'a> {
    region: Option<&'a str>,
    account: Option<&'a str>,
    name: &'a str,
    qualifier: Option<&'a str>,
}

/// <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html> names these forms; the pattern
/// allows some more, which nobody uses.
fn parts(given: &str) -> Option<Parts<'_>> {
    let all: Vec<_> = given.split(':').collect();
    let (region, account, rest) = match &all[..] {
        [
            "arn",
            partition,
            "lambda",
            region,
            account,
            "function",
            rest @ ..,
        ] if partition.starts_with("aws") => (Some(*region), Some(*account), rest),
        [account, "function", rest @ ..] => (None, Some(*account), rest),
        rest => (None, None, rest),
    };
    let (&name, rest) = rest.split_first()?;
    let qualifier = rest.first().copied();
    let is_account = |account: &str| account.len() == 12 && consists_of(account, "");
    let is_valid = rest.len() <= 1
        && consists_of(name, "-_.")
        && account.is_none_or(is_account)
        && qualifier.is_none_or(|part| consists_of(part, "-_") || is_version(part));
    is_valid.then_some(Parts {
        region,
        account,
        name,
        qualifier,
    })
}

fn is_version(qualifier: &str) -> bool {
    matches!(qualifier, "$LATEST" | "$LATEST.PUBLISHED")
}

fn consists_of(text: &str, punctuation: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || punctuation.contains(c);
    !text.is_empty() && text.chars().all(is_allowed)
}
