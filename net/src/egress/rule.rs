//! One rule of an egress list.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use frame_registry::text;
use idna::AsciiDenyList;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::direct::{AddressRule, Pattern, Problem, Rule, parse_rule, parsed_text};

/// Destinations that a unit may reach: a name, the names below one, or addresses; each with all of its ports or some.
///
/// | written as | covers |
/// |---|---|
/// | `example.com` | this name |
/// | `*.example.com` | every name below it, however deep, and not the name itself |
/// | `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32` | these addresses, where the destination is given as an address |
/// | `example.com:443`, `10.0.0.0/8:8000-8999`, `[2001:db8::]:443`, `[2001:db8::/32]:443` | the same, with this port or one of these |
///
/// Names are compared without case and without a final dot. International names are written as such or in their ASCII form
/// (RFC 5891), which is the same rule. An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) is the IPv4 address.
///
/// A rule for addresses never covers a name, whatever that resolves to: to find out, the name would have to be looked up.
/// There is no rule for everything. To allow all destinations, leave the option out.
///
/// ```
/// use frame_net::EgressRule;
///
/// let rule: EgressRule = "*.Bücher.example.:443".parse()?;
/// assert_eq!(rule.to_string(), "*.xn--bcher-kva.example:443");
/// assert_eq!("::ffff:192.0.2.7".parse::<EgressRule>()?, "192.0.2.7".parse()?);
///
/// let error = "*".parse::<EgressRule>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the rule `*` would allow every name; list names such as `*.example.com`, or leave the option `egress` out to allow \
///      all destinations",
/// );
/// # Ok::<(), frame_net::EgressRuleError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EgressRule(Rule);

impl EgressRule {
    pub(super) const fn rule(&self) -> &Rule {
        &self.0
    }

    /// Returns whether a destination exists that both rules cover.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Rule::Address(one), Rule::Address(other)) => {
                one.block.overlaps(&other.block) && one.ports.overlap(other.ports)
            }
            (Rule::Name(one), Rule::Name(other)) => {
                one.pattern.overlaps(&other.pattern) && one.ports.overlap(other.ports)
            }
            _ => false,
        }
    }
}

impl FromStr for EgressRule {
    type Err = EgressRuleError;

    fn from_str(text: &str) -> Result<Self, EgressRuleError> {
        let wrong = |problem| EgressRuleError::new(text, problem);
        let ascii = to_ascii(text).map_err(wrong)?;
        let rule = parse_rule(ascii.as_deref().unwrap_or(text)).map_err(|problem| wrong(problem.into()))?;
        match rule {
            Rule::Name(name) if name.pattern == Pattern::Any => Err(wrong(EgressProblem::Everything)),
            Rule::Name(name) => Ok(Self(Rule::Name(name))),
            Rule::Address(AddressRule { block, ports }) => {
                let block = block.mapped().unwrap_or(block);
                Ok(Self(Rule::Address(AddressRule { block, ports })))
            }
        }
    }
}

/// The rule with its name in ASCII, if that is another text.
fn to_ascii(text: &str) -> Result<Option<String>, EgressProblem> {
    let has_label_in_ascii = || text.split(['.', ':']).any(is_ascii_form);
    // What is wrong with a URL or an address is said of it as it is.
    if text.contains("://") || text.contains(['@', '/', '[']) || text.is_ascii() && !has_label_in_ascii() {
        return Ok(None);
    }
    let (target, ports) = text.split_once(':').map_or((text, None), |(target, ports)| (target, Some(ports)));
    let (star, name) = target.strip_prefix("*.").map_or(("", target), |name| ("*.", name));
    let name = idna::domain_to_ascii_cow(name.as_bytes(), AsciiDenyList::URL)
        .map_err(|_| EgressProblem::International)?;
    // Such as one in full-width digits.
    if name.parse::<IpAddr>().is_ok() {
        return Err(EgressProblem::International);
    }
    Ok(Some(match ports {
        Some(ports) => format!("{star}{name}:{ports}"),
        None => format!("{star}{name}"),
    }))
}

/// Returns whether the label is an international one in its ASCII form.
fn is_ascii_form(label: &str) -> bool {
    label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"))
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for EgressRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EgressRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed_text(deserializer, "a rule, such as \"example.com\", \"*.example.com:443\" or \"10.0.0.0/8\"")
    }
}

/// A text is not an [`EgressRule`]. It says what to write instead. The text is shown, unless it looks like a URL: there may
/// be a password in that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRuleError {
    text: Box<str>,
    problem: EgressProblem,
}

impl EgressRuleError {
    /// How many bytes of a text are shown.
    const SHOWN: usize = 300;

    fn new(text: &str, problem: EgressProblem) -> Self {
        let text = if problem == EgressProblem::Rule(Problem::Url) { "" } else { text };
        Self { text: text::excerpt(text, Self::SHOWN).into(), problem }
    }
}

impl fmt::Display for EgressRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.text {
            "" => write!(f, "a rule {}", self.problem),
            text => write!(f, "the rule `{text}` {}", self.problem),
        }
    }
}

impl std::error::Error for EgressRuleError {}

/// What is wrong, as it is said of the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum EgressProblem {
    #[error(
        "would allow every name; list names such as `*.example.com`, or leave the option `egress` out to allow all \
         destinations"
    )]
    Everything,
    #[error("has a `*` in the wrong place; write `*.example.com` for the names below `example.com`")]
    Star,
    #[error("is not a valid international name; write the name as a browser shows it")]
    International,
    #[error(transparent)]
    Rule(Problem),
}

impl From<Problem> for EgressProblem {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Star => Self::Star,
            problem => Self::Rule(problem),
        }
    }
}
