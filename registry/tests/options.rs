//! Options: typed, merged, and given as JSON.

use std::error::Error;

use frame_registry::{
    DeclaredOption, FrameOption, Key, Narrow, OptionError, Options, frame_key, frame_option,
};
use proptest::prelude::*;
use serde_json::json;

#[frame_option(name = "network", dispatcher)]
static NETWORK: FrameOption<String>;
#[frame_option(name = "retries", dispatcher)]
static RETRIES: FrameOption<u32>;
#[frame_option(name = "labels", dispatcher)]
static LABELS: FrameOption<Vec<String>>;
/// Cannot be read from text.
#[frame_option(name = "hook", dispatcher)]
static HOOK: FrameOption<fn() -> u32>;
#[frame_option(name = "token", dispatcher, secret)]
static TOKEN: FrameOption<String>;
#[frame_option(name = "opaque", dispatcher)]
static OPAQUE: FrameOption<Opaque>;
#[frame_option(name = "profile", dispatcher, empty_is_unset)]
static PROFILE: FrameOption<String>;
#[frame_option(name = "pin", dispatcher, secret)]
static PIN: FrameOption<u32>;
#[frame_option(name = "borrowed", dispatcher)]
static BORROWED: FrameOption<&'static str>;

#[frame_option(name = "region", dispatcher)]
static REGION: FrameOption<Region>;
#[frame_option(name = "wide", dispatcher)]
static WIDE: FrameOption<u128>;
#[frame_option(name = "ratio", dispatcher)]
static RATIO: FrameOption<f64>;
#[frame_option(name = "ratios", dispatcher)]
static RATIOS: FrameOption<Vec<f64>>;
#[frame_option(name = "limit", dispatcher)]
static LIMIT: FrameOption<Option<u32>>;
#[frame_option(name = "password", dispatcher, secret)]
static PASSWORD: FrameOption<Quoted>;
#[frame_key(name = "password", propagates, inherit, public, secret)]
static PASSWORD_OF: Key<Quoted>;

/// Cannot be compared.
#[derive(Debug)]
struct Opaque;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Region {
    Eu,
    Us,
}

/// Quotes itself where it fails, which it always does.
#[derive(Debug, Clone, serde::Deserialize)]
struct Quoted(String);

impl serde::Serialize for Quoted {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(format_args!("{} is too weak", self.0)))
    }
}

#[test]
fn an_option_holds_one_value_of_its_type() {
    let mut options = Options::new();
    assert!(options.is_empty());
    options.set(&RETRIES, 1).set(&RETRIES, 2).set(&HOOK, || 7);
    assert_eq!((options.get(&RETRIES), options.len()), (Some(&2), 2));
    assert_eq!(options.get(&HOOK).unwrap()(), 7);
    assert!(options.contains(&HOOK) && !options.contains(&NETWORK));
    assert!(options.remove(&RETRIES) && !options.remove(&RETRIES));
    assert_eq!(options.iter().map(DeclaredOption::name).collect::<Vec<_>>(), ["hook"]);
}

#[test]
fn debug_shows_values_and_hides_secrets() {
    let options = Options::new().with(&TOKEN, "xyzzy".to_owned()).with(&RETRIES, 3);
    assert_eq!(format!("{options:?}"), r#"Options {"token": <secret>, "retries": 3}"#);
    assert_eq!(format!("{:?}", TOKEN.value("xyzzy".to_owned())), r#"OptionValue("token", <secret>)"#);
    let entry = format!("{:?}", options.entries().next().unwrap());
    assert_eq!(entry, r#"OptionEntry { option: "token", value: <secret>, is_trusted: true, .. }"#);
}

#[test]
fn options_are_equal_if_they_are_set_to_equal_values_of_equal_trust() {
    let options = || Options::new().with(&RETRIES, 3).with(&NETWORK, "tor".to_owned());
    assert_eq!(options(), Options::new().with(&NETWORK, "tor".to_owned()).with(&RETRIES, 3));
    assert_ne!(options(), options().with(&RETRIES, 4));
    assert_ne!(options(), Options::new().with(&RETRIES, 3));
    assert_ne!(options(), options().with(&LABELS, Vec::new()));
    assert_ne!(options(), options().untrusted());
    assert_ne!(options().merged_under(&options().untrusted()), options().untrusted());

    // Of a type without `PartialEq` a value is equal to its copies alone.
    let opaque = Options::new().with(&OPAQUE, Opaque);
    assert_eq!(opaque, opaque.clone());
    assert_ne!(opaque, Options::new().with(&OPAQUE, Opaque));
}

#[test]
fn values_and_entries_are_collected_into_options() {
    let values = [RETRIES.value(1), NETWORK.value("tor".to_owned()), RETRIES.value(2)];
    let options: Options = values.into_iter().collect();
    assert_eq!(options, Options::new().with(&RETRIES, 2).with(&NETWORK, "tor".to_owned()));

    let mixed = options.merged_under(&Options::new().with(&RETRIES, 3).untrusted());
    let some: Options = mixed.entries().filter(|entry| entry.option().name() == "retries").collect();
    assert_eq!((some.get(&RETRIES), some.len()), (Some(&3), 1));
    assert!(!some.is_trusted(&RETRIES) && some.replaces_trusted(&RETRIES));
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Job {
    name: String,
    options: Options,
}

#[test]
fn options_are_a_field_of_what_is_stored() {
    let options = Options::new().with(&NETWORK, "tor:main".to_owned()).with(&RETRIES, 3);
    let job = Job { name: "nightly".to_owned(), options };
    let json = serde_json::to_value(&job).unwrap();
    let expected = json!({ "name": "nightly", "options": { "network": "tor:main", "retries": 3 } });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<Job>(json).unwrap(), job);
}

#[test]
fn options_that_are_stored_stay_untrusted() {
    let preset = Options::new().with(&NETWORK, "tor:main".to_owned()).with(&LABELS, vec!["a".to_owned()]);
    let script = Options::new().with(&NETWORK, "clearnet".to_owned()).with(&RETRIES, 3).untrusted();
    let options = preset.merged_under(&script);
    let text = serde_json::to_string(&options).unwrap();
    let expected = r#"{"network":"clearnet","labels":["a"],"retries":3,"$untrusted":["network","retries"],"$replaces_trusted":["network"]}"#;
    assert_eq!(text, expected);
    let read: Options = serde_json::from_str(&text).unwrap();
    assert_eq!(read, options);
    assert!(!read.is_trusted(&NETWORK) && read.replaces_trusted(&NETWORK));
    assert!(!read.is_trusted(&RETRIES) && read.is_trusted(&LABELS));
}

#[test]
fn what_cannot_be_stored_or_read_is_an_error() {
    let error = serde_json::to_string(&Options::new().with(&HOOK, || 7)).unwrap_err();
    let expected = "option `hook` cannot be written as text: `fn() -> u32` does not implement `Serialize`";
    assert_eq!(error.to_string(), expected);

    let refused = |text: &str| serde_json::from_str::<Options>(text).unwrap_err().to_string();
    let unknown = refused(r#"{ "retires": 1 }"#);
    assert!(unknown.starts_with("no option is named `retires`; did you mean `retries`?"), "{unknown}");
    let twice = refused(r#"{ "retries": 1, "retries": 2 }"#);
    assert!(twice.starts_with("option `retries` is given twice"), "{twice}");
    let marked = refused(r#"{ "retries": 1, "$untrusted": ["retires"] }"#);
    assert!(marked.starts_with("no option is named `retires`; did you mean `retries`?"), "{marked}");
    assert!(refused("3").contains("expected options, by their declared names"));
}

#[test]
fn errors_of_serde_name_the_option_and_the_cause() {
    let unknown = serde_json::from_str::<Options>(r#"{ "region": "mars" }"#).unwrap_err().to_string();
    let expected = "option `region` has an invalid value, the string \"mars\": unknown variant `mars`, expected `eu` or `us`";
    assert!(unknown.starts_with(expected), "{unknown}");
    let wide = serde_json::to_string(&Options::new().with(&WIDE, u128::MAX)).unwrap_err().to_string();
    assert_eq!(wide, "option `wide` cannot be written: number out of range");
}

#[test]
fn the_value_of_a_secret_that_cannot_be_written_is_in_no_error() {
    let value = Quoted("hunter2".to_owned());
    let error = serde_json::to_string(&Options::new().with(&PASSWORD, value.clone())).unwrap_err();
    let expected = "option `password` cannot be written: the value is hidden, because the option is declared with `secret`";
    assert_eq!(error.to_string(), expected);
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");

    let pair = PASSWORD_OF.pair(value);
    let propagated = serde_json::to_value(pair.propagated().unwrap()).unwrap_err();
    let public = pair.public().unwrap().unwrap_err();
    let expected =
        "the value of key `password` cannot be written; the error is hidden, because the key is secret";
    assert_eq!([propagated, public].map(|error| error.to_string()), [expected; 2]);

    let read = serde_json::from_str::<Options>(r#"{ "pin": "hunter2" }"#).unwrap_err();
    assert!(!read.to_string().contains("hunter2"), "{read}");
}

#[test]
fn a_mark_that_is_given_twice_is_refused() {
    for mark in ["$untrusted", "$replaces_trusted", "$empty"] {
        let text = format!(r#"{{ "{mark}": ["retries"], "retries": 1, "{mark}": [] }}"#);
        let error = serde_json::from_str::<Options>(&text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("mark `{mark}` is given twice")), "{error}");
    }
}

#[test]
fn an_option_that_was_set_to_an_empty_string_stays_set_when_it_is_stored() {
    let options = Options::new().with(&PROFILE, String::new()).untrusted().with(&RETRIES, 3);
    let text = serde_json::to_string(&options).unwrap();
    assert_eq!(text, r#"{"profile":"","retries":3,"$untrusted":["profile"],"$empty":["profile"]}"#);
    let read: Options = serde_json::from_str(&text).unwrap();
    assert_eq!(read, options);
    assert!(!read.is_trusted(&PROFILE));

    let given: Options = serde_json::from_str(r#"{ "profile": "", "$untrusted": ["profile"] }"#).unwrap();
    assert!(given.is_empty(), "as text that a script wrote");
    let error = serde_json::from_str::<Options>(r#"{ "profile": "" }"#).unwrap_err();
    assert!(error.to_string().starts_with("option `profile` is empty; leave it out"), "{error}");
    let error = serde_json::from_str::<Options>(r#"{ "profile": "", "profile": "" }"#).unwrap_err();
    assert!(error.to_string().starts_with("option `profile` is given twice"), "{error}");
}

#[test]
fn a_number_that_json_does_not_have_cannot_be_stored() {
    let refused = |options: &Options| serde_json::to_string(options).unwrap_err().to_string();
    let why = "its value contains `null` as JSON, as for a number that is not finite, and";
    let ratio = refused(&Options::new().with(&RATIO, f64::NAN));
    assert_eq!(ratio, format!("option `ratio` cannot be written: {why} `f64` does not read that back"));
    let ratios = refused(&Options::new().with(&RATIOS, vec![1.0, f64::INFINITY]));
    assert_eq!(
        ratios,
        format!("option `ratios` cannot be written: {why} `Vec<f64>` does not read that back")
    );

    let limit = Options::new().with(&LIMIT, None);
    let text = serde_json::to_string(&limit).unwrap();
    assert_eq!(text, r#"{"limit":null}"#, "a type may mean `null`");
    assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), limit);
}

#[test]
fn the_call_is_merged_over_the_entry() {
    let entry = Options::new().with(&NETWORK, "entry".to_owned()).with(&RETRIES, 1);
    let call = Options::new().with(&RETRIES, 2).with(&LABELS, vec!["call".to_owned()]);
    let merged = entry.merged_under(&call);
    assert_eq!(merged.get(&NETWORK).unwrap(), "entry");
    assert_eq!(merged.get(&RETRIES), Some(&2));
    assert_eq!(merged.get(&LABELS).unwrap(), &["call"]);
    assert_eq!((entry.get(&RETRIES), call.get(&NETWORK)), (Some(&1), None), "neither is changed");
}

#[test]
fn json_is_read_by_declared_name() {
    let options =
        Options::from_json(&json!({ "network": "tor:main", "retries": 3, "labels": ["a"] })).unwrap();
    assert_eq!(options.get(&NETWORK).unwrap(), "tor:main");
    assert_eq!(options.get(&RETRIES), Some(&3));
    assert_eq!(options.get(&LABELS).unwrap(), &["a"]);
    assert!(Options::from_json(&json!({})).unwrap().is_empty());
}

#[track_caller]
fn refused(json: &serde_json::Value, message: &str) -> OptionError {
    let error = Options::from_json(json).unwrap_err();
    assert_eq!(error.to_string(), message);
    error
}

#[test]
fn an_option_that_nobody_declares_is_refused_with_the_nearest_name() {
    refused(&json!({ "netwrok": "tor:main" }), "no option is named `netwrok`; did you mean `network`?");
    refused(&json!({ "Network": "tor:main" }), "no option is named `Network`; did you mean `network`?");
}

#[test]
fn an_option_that_is_like_no_other_is_refused_with_the_question_whether_its_crate_is_linked() {
    let hint = "is the crate that declares it linked? write `use that_crate as _;`";
    let long = "x".repeat(1 << 22);
    refused(&json!({ &long: 1 }), &format!("no option is named `{}…`; {hint}", &long[..100]));
    refused(&json!({ "colour": 1 }), &format!("no option is named `colour`; {hint}"));
    refused(&json!({ "": 1 }), &format!("no option is named ``; {hint}"));
}

#[test]
fn the_value_of_a_secret_option_is_in_no_error() {
    let error = refused(&json!({ "pin": "hunter2" }), "option `pin` has an invalid value, a string");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "the value is hidden, because the option is declared with `secret`");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let pin = frame_registry::declared_options().into_iter().find(|option| option.name() == "pin").unwrap();
    assert!(pin.is_secret());
}

#[test]
fn a_value_of_the_wrong_type_is_refused_and_says_what_is_expected() {
    let cases = [
        (json!(5), "the number 5"),
        (json!(null), "null"),
        (json!(true), "the boolean true"),
        (json!(["tor:main"]), "a list"),
        (json!({ "id": "tor:main" }), "an object"),
    ];
    for (value, given) in cases {
        let message = format!("option `network` has an invalid value, {given}");
        let error = refused(&json!({ "network": value }), &message);
        assert!(error.source().unwrap().to_string().contains("expected a string"));
    }
    refused(&json!({ "retries": -1 }), "option `retries` has an invalid value, the number -1");
    refused(&json!({ "retries": "" }), "option `retries` has an invalid value, an empty string");
    let long = "x".repeat(100);
    refused(&json!({ "retries": long }), "option `retries` has an invalid value, a string of 100 characters");
}

#[test]
fn an_option_whose_type_is_not_text_is_refused() {
    let error =
        refused(&json!({ "hook": 1 }), "option `hook` cannot be given as text; only native code can set it");
    assert!(matches!(error, OptionError::NotText { .. }));
    assert!(!HOOK.declared().is_text() && NETWORK.declared().is_text());
}

#[test]
fn options_that_are_no_object_are_refused() {
    refused(&json!([1]), r#"options are a JSON object, such as {"name": value}; this is a list"#);
    refused(
        &json!("network"),
        r#"options are a JSON object, such as {"name": value}; this is the string "network""#,
    );
}

#[test]
fn a_refused_value_leaves_the_options_as_they_were() {
    let mut options = Options::new().with(&RETRIES, 1);
    options.set_json("retries", &json!("many")).unwrap_err();
    options.set_json("retires", &json!(2)).unwrap_err();
    assert_eq!((options.get(&RETRIES), options.len()), (Some(&1), 1));
    options.set_json("retries", &json!(2)).unwrap();
    assert_eq!(options.get(&RETRIES), Some(&2));
}

#[test]
fn an_empty_string_is_no_value_where_the_option_says_so() {
    let error = Options::from_json(&json!({ "profile": "" })).unwrap_err();
    assert!(matches!(error, OptionError::Empty { option: "profile" }), "{error:?}");
    let mut options = Options::from_json(&json!({ "profile": "fast" })).unwrap();
    options.set_json("profile", &json!("")).unwrap_err();
    assert_eq!(options.get(&PROFILE).unwrap(), "fast", "as it was");
    options.set_json("profile", &json!(null)).expect_err("null is not an empty string");
    let network = Options::from_json(&json!({ "network": "" })).unwrap();
    assert_eq!(network.get(&NETWORK).unwrap(), "", "a value like any other elsewhere");
}

#[test]
fn an_empty_string_of_untrusted_code_leaves_what_is_there() {
    let given = Options::from_untrusted_json(&json!({ "profile": "", "retries": 3 })).unwrap();
    assert_eq!(
        (given.get(&PROFILE), given.get(&RETRIES), given.is_trusted(&RETRIES)),
        (None, Some(&3), false)
    );
    let preset = Options::from_json(&json!({ "profile": "fast" })).unwrap();
    let merged = preset.merged_under(&given);
    assert_eq!((merged.get(&PROFILE).unwrap().as_str(), merged.is_trusted(&PROFILE)), ("fast", true));
    Options::from_untrusted_json(&json!({ "profile": null })).expect_err("null is not an empty string");
    Options::from_untrusted_json(&json!({ "retires": "" })).expect_err("there is no such option");
    Options::from_untrusted_json(&json!([])).expect_err("not an object");
}

#[test]
fn types_are_named_as_the_declaration_writes_them() {
    let types = [NETWORK.declared(), LABELS.declared(), HOOK.declared(), BORROWED.declared()];
    assert_eq!(
        types.map(DeclaredOption::type_name),
        ["String", "Vec<String>", "fn() -> u32", "&'static str"]
    );
    assert!(!BORROWED.declared().is_text(), "a borrowed value cannot be read from text");
}

proptest! {
    /// No text makes an option of a name that nobody declares, and none panics.
    #[test]
    fn only_declared_names_are_taken(name in ".{0,12}", value in any::<i64>()) {
        prop_assume!(frame_registry::declared_options().iter().all(|option| option.name() != name));
        let is_unknown = matches!(
            Options::from_json(&json!({ name.as_str(): value })),
            Err(OptionError::Unknown { .. })
        );
        prop_assert!(is_unknown);
    }
}

/// The most that a call may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Budget(u32);

impl Narrow for Budget {
    fn narrowed_by(&self, by: &Self) -> Self {
        Self(self.0.min(by.0))
    }
}

#[frame_option(name = "budget", dispatcher)]
static BUDGET: FrameOption<Budget>;

#[test]
fn a_value_that_narrows_is_not_replaced_by_a_later_layer() {
    let layer = |budget| Options::new().with(&BUDGET, Budget(budget));
    for (preset, call, merged) in [(10, 50, 10), (50, 10, 10), (10, 10, 10)] {
        assert_eq!(layer(preset).merged_under(&layer(call)).get(&BUDGET), Some(&Budget(merged)));
        let untrusted = layer(preset).merged_under(&layer(call).untrusted());
        assert_eq!(untrusted.get(&BUDGET), Some(&Budget(merged)));
    }
    let merged = layer(10).merged_under(&layer(50));
    assert!(
        merged.entries().all(|entry| entry.is_narrowed())
            && layer(10).entries().all(|entry| !entry.is_narrowed())
    );
    let three = layer(50).merged_under(&layer(10)).merged_under(&layer(30));
    assert_eq!(three.get(&BUDGET), Some(&Budget(10)));
    assert_eq!(layer(10).merged_under(&Options::new()).get(&BUDGET), Some(&Budget(10)));
    assert_eq!(Options::new().merged_under(&layer(10)).get(&BUDGET), Some(&Budget(10)));
}

#[test]
fn a_value_that_untrusted_code_has_narrowed_is_not_trusted() {
    let layer = |budget| Options::new().with(&BUDGET, Budget(budget));
    let merged = layer(10).merged_under(&layer(5).untrusted());
    assert!(!merged.is_trusted(&BUDGET) && merged.replaces_trusted(&BUDGET));
    assert!(!layer(5).untrusted().merged_under(&layer(10)).is_trusted(&BUDGET));
    assert!(layer(5).merged_under(&layer(10)).is_trusted(&BUDGET));
}

#[test]
fn setting_an_option_replaces_its_value_also_where_layers_narrow() {
    let mut options = Options::new().with(&BUDGET, Budget(10));
    options.set(&BUDGET, Budget(50));
    assert_eq!(options.get(&BUDGET), Some(&Budget(50)));
}
