//! The names by which requests name a function.

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

/// The parts of a name, an ARN or a part of one.
struct Parts<'a> {
    region: Option<&'a str>,
    account: Option<&'a str>,
    name: &'a str,
    qualifier: Option<&'a str>,
}

impl FunctionName {
    /// Reads the name in a request's path and the qualifier in its query. `action` is what the caller
    /// needs permission for.
    pub(crate) fn read(given: &str, query: &str, action: &str) -> Result<Self, ApiError> {
        let query = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "Qualifier");
        let query = query.map(|(_, value)| value.into_owned());
        let query = query.filter(|qualifier| !qualifier.is_empty());
        let Parts {
            region,
            account,
            name,
            qualifier,
        } = validated(given, query.as_deref())?;
        if let Some(region) = region.filter(|region| *region != REGION) {
            return Err(ApiError::not_found(format!(
                "Functions from '{region}' are not reachable in this region ('{REGION}')"
            )));
        }
        if account.is_some_and(|account| account != ACCOUNT_ID) {
            return Err(ApiError::access_denied(action, given));
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
            name: name.to_owned(),
            qualifier: qualifier.map(str::to_owned).or(query),
        })
    }
}

/// Checks a name and a qualifier against AWS's API model. Returns the parts of the name.
fn validated<'a>(name: &'a str, qualifier: Option<&str>) -> Result<Parts<'a>, ApiError> {
    let parts = parts(name);
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
        let matches = consists_of(qualifier, "-_$") || is_version(qualifier);
        check(qualifier, "qualifier", MAX_QUALIFIER, QUALIFIER, matches);
    }
    match parts {
        Some(parts) if violations.is_empty() => Ok(parts),
        _ => Err(ApiError::validation(&violations)),
    }
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
    let is_account = |account: &str| account.len() == 12 && consists_of(account, "");
    let (name, qualifier) = match rest {
        [name] => (*name, None),
        [name, qualifier] => (*name, Some(*qualifier)),
        _ => return None,
    };
    let is_valid = consists_of(name, "-_.")
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
