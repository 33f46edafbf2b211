//! What rules, lists and chains cover, and what is refused.

use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, ResolveErrorKind};
use serde_json::{Value, json};

use super::*;
use crate::endpoint::Endpoint;

fn rule(text: &str) -> EgressRule {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn wrong(text: &str) -> String {
    text.parse::<EgressRule>().unwrap_err().to_string()
}

fn list(rules: &[&str]) -> EgressList {
    EgressList::parse(rules).unwrap()
}

fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// Returns whether `rules` allow `to`.
fn allows(rules: &[&str], to: &str) -> bool {
    list(rules).covering(&endpoint(to)).is_some()
}

#[test]
fn a_rule_is_shown_in_one_form() {
    for (text, shown) in [
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        ("*.Example.com.:443", "*.example.com:443"),
        ("example.com:1-65535", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example:80-90", "xn--bcher-kva.example:80-90"),
        ("*.bu\u{308}cher.example", "*.xn--bcher-kva.example"),
        ("日本。jp", "xn--wgv71a.jp"),
        ("_dmarc.example", "_dmarc.example"),
        ("localhost", "localhost"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.7/32", "10.0.0.7"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("[::ffff:10.0.0.0/104]:80", "10.0.0.0/8:80"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ] {
        assert_eq!(rule(text).to_string(), shown, "{text}");
        assert_eq!(rule(shown), rule(text), "{text}");
    }
}

#[test]
fn a_rule_for_everything_is_refused_with_advice() {
    for text in ["*", "*:443", "*:1-65535"] {
        assert!(
            wrong(text).ends_with("or leave the option `egress` out to allow all destinations"),
            "{}",
            wrong(text)
        );
    }
}

#[test]
fn a_text_that_is_not_a_rule_is_refused_and_says_what_to_write() {
    for (text, says) in [
        ("", "cannot be empty"),
        (" ", "cannot have ' ' in it"),
        ("*.", "has a `*` in the wrong place; write `*.example.com`"),
        ("**", "has a `*` in the wrong place"),
        ("*.*.example.com", "has a `*` in the wrong place"),
        ("api.*.com", "has a `*` in the wrong place"),
        ("*example.com", "has a `*` in the wrong place"),
        ("example.com:0", "has no port from 1 to 65535"),
        ("example.com:70000", "has no port from 1 to 65535"),
        ("example.com:", "has no port from 1 to 65535"),
        ("example.com:+80", "has no port from 1 to 65535"),
        ("example.com:90-80", "write `80-90`"),
        ("10.0.0.0/33", "has no number from 0 to 32"),
        ("10.0.0.0/08", "has no number from 0 to 32"),
        ("10.0.0.0/-1", "has no number from 0 to 32"),
        ("::/129", "has no number from 0 to 128"),
        ("10.1.2.3/8", "write `10.0.0.0/8` for the whole range"),
        ("example.com/8", "has a `/` and no address in front of it"),
        ("example.com/path", "has a `/`"),
        // As `inet_aton` would read them.
        ("010.0.0.1", "cannot end in a number"),
        ("0x7f.1", "cannot end in a number"),
        ("0x7f000001", "cannot end in a number"),
        ("2130706433", "cannot end in a number"),
        ("127.1", "cannot end in a number"),
        ("127.0.0.1.", "cannot end in a number"),
        // In full-width digits, which become others.
        ("１２７.0.0.1", "is not a valid international name"),
        ("０x7f.1", "cannot end in a number"),
        ("fe80::1%eth0", "has a zone in its address"),
        ("[fe80::1%eth0]:80", "has a zone in its address"),
        ("2001:db8::/32:443", "write brackets"),
        ("[10.0.0.1]:80", "has brackets"),
        ("[::1", "has brackets"),
        ("example..com", "empty label"),
        (".example.com", "empty label"),
        ("xn--a.example", "is not a valid international name"),
        ("exam ple.com", "cannot have ' ' in it"),
        ("bü cher.example", "is not a valid international name"),
        ("example.com\n", "cannot have '\\n' in it"),
    ] {
        assert!(wrong(text).contains(says), "{text:?}: {}", wrong(text));
    }
    let long = "a".repeat(100_000);
    assert!(wrong(&long).len() < 600);
}

#[test]
fn an_error_shows_no_url_and_no_control_characters() {
    assert!(!wrong("https://user:xyzzy@example.com/").contains("xyzzy"));
    assert!(!wrong("user:xyzzy@example.com").contains("xyzzy"));
    assert!(!wrong("exa\u{1b}[2Jmple.com").contains('\u{1b}'));
}

#[test]
fn names_are_covered_as_they_are_written_and_below() {
    assert!(allows(&["example.com"], "EXAMPLE.com.:80"));
    assert!(!allows(&["example.com"], "www.example.com:80"));
    assert!(allows(&["*.example.com"], "www.Example.com:80"));
    assert!(allows(&["*.example.com"], "a.b.c.example.com.:80"));
    assert!(!allows(&["*.example.com"], "example.com:80"));
    assert!(!allows(&["*.example.com"], "notexample.com:80"));
    assert!(!allows(&["*.example.com"], "example.com.evil.example:80"));
    assert!(allows(&["*.com"], "a.example.com:80"));
    assert!(allows(&["bücher.example"], "xn--bcher-kva.example:80"));
    assert!(allows(&["*.onion"], "abc.onion:80"));
}

#[test]
fn addresses_are_covered_where_they_are_given_as_such() {
    assert!(allows(&["10.0.0.0/8"], "10.255.0.1:80"));
    assert!(allows(&["10.0.0.0/8"], "[::ffff:10.1.2.3]:80"));
    assert!(allows(&["::ffff:10.0.0.0/104"], "10.1.2.3:80"));
    assert!(!allows(&["10.0.0.0/8"], "11.0.0.1:80"));
    assert!(!allows(&["::/0"], "10.0.0.1:80"));
    assert!(!allows(&["::/0"], "[::ffff:10.0.0.1]:80"), "it is an IPv4 address");
    assert!(!allows(&["0.0.0.0/0"], "[2001:db8::1]:80"));
    assert!(allows(&["2001:db8::/32", "10.0.0.0/8", "10.9.0.0/16:443"], "10.9.0.1:443"));
    assert!(
        !allows(&["0.0.0.0/0", "::/0"], "localhost:80"),
        "a name is not an address, whatever it resolves to"
    );
}

#[test]
fn ports_are_covered_alone_and_in_ranges() {
    let rules = ["a.example:80", "a.example:8000-8999", "a.example:8500-9500", "a.example:443"];
    for port in [80, 443, 8000, 8999, 9000, 9500] {
        assert!(allows(&rules, &format!("a.example:{port}")), "{port}");
    }
    for port in [79, 81, 442, 7999, 9501, 65535] {
        assert!(!allows(&rules, &format!("a.example:{port}")), "{port}");
    }
}

#[test]
fn a_lookup_is_allowed_if_a_port_is() {
    let rules = list(&["a.example:443", "*.b.example:80", "10.0.0.0/8"]);
    let covers = |name: &str| rules.covering_name(&name.parse().unwrap(), None).is_some();
    assert!(covers("a.example") && covers("x.b.example."));
    assert!(!covers("b.example") && !covers("c.example"));
}

#[test]
fn an_empty_list_allows_nothing() {
    for to in ["example.com:443", "127.0.0.1:80", "[::1]:80"] {
        assert!(!Egress::none().check(&endpoint(to)).is_allowed(), "{to}");
    }
}

#[test]
fn a_list_has_at_most_ten_thousand_rules() {
    let rules = |count: usize| (0..count).map(|index| format!("host-{index}.example"));
    let most = EgressList::parse(rules(10_000)).unwrap();
    assert!(most.covering(&endpoint("host-9999.example:80")).is_some());
    assert!(most.covering(&endpoint("host-10000.example:80")).is_none());
    assert_eq!(EgressList::parse(rules(10_001)).unwrap_err(), EgressListError::TooMany);
    let written: Vec<_> = rules(10_001).collect();
    let error = Options::from_json(&json!({ "egress": written })).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().starts_with("a list has at most 10000 rules"), "{source}");
}

#[test]
fn a_list_of_many_rules_shows_a_few() {
    let rules: Vec<_> = (0..100).map(|index| format!("host-{index}.example")).collect();
    let shown = EgressList::parse(&rules).unwrap().to_string();
    assert!(shown.ends_with("host-7.example, and 92 more]"), "{shown}");
}

#[test]
fn a_chain_is_written_and_read() {
    let one = Egress::new(list(&["a.example", "10.0.0.0/8:80"]));
    assert_eq!(serde_json::to_value(&one).unwrap(), json!(["a.example", "10.0.0.0/8:80"]));
    let both = one.narrowed_by(&Egress::none());
    assert_eq!(serde_json::to_value(&both).unwrap(), json!([["a.example", "10.0.0.0/8:80"], []]));
    for egress in [one, both, Egress::none()] {
        let written = serde_json::to_string(&egress).unwrap();
        assert_eq!(serde_json::from_str::<Egress>(&written).unwrap(), egress);
    }
    for wrong in [
        json!("a.example"),
        json!(null),
        json!({ "a.example": 1 }),
        json!([1]),
        json!(["a.example", ["b.example"]]),
        json!([[["a"]]]),
    ] {
        serde_json::from_value::<Egress>(wrong.clone()).expect_err(&wrong.to_string());
    }
    serde_json::from_value::<Egress>(json!(vec![json!([]); 33])).unwrap_err();
    assert_eq!(serde_json::from_value::<Egress>(json!({})).unwrap(), Egress::none(), "as Lua writes it");
}

fn app() -> App {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).unwrap();
    app.build()
}

fn resolved(parent: Option<&Frame>, options: &Options) -> Result<Frame, EgressError> {
    let app = app();
    let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
    match app.resolvers().resolve(&ResolveContext::new(&app, parent), options, frame.pairs_mut()) {
        Ok(()) => Ok(frame.seal()),
        Err(error) => match error.kind() {
            ResolveErrorKind::Failed { source, .. } => Err(*source.downcast_ref().unwrap()),
            other => panic!("{other:?}"),
        },
    }
}

fn trusted(rules: &Value) -> Options {
    Options::from_json(&json!({ "egress": rules })).unwrap()
}

fn untrusted(rules: &Value) -> Options {
    Options::from_untrusted_json(&json!({ "egress": rules })).unwrap()
}

fn lists_of(frame: &Frame) -> usize {
    frame.get(&EGRESS_KEY).map_or(0, |egress| egress.lists().count())
}

fn reaches(frame: &Frame, to: &str) -> bool {
    Egress::of(frame).is_none_or(|egress| egress.check(&endpoint(to)).is_allowed())
}

#[test]
fn each_level_only_narrows_trusted_or_not() {
    for options in [trusted, untrusted] {
        let outer = resolved(None, &trusted(&json!(["*.example"]))).unwrap();
        let inner = resolved(Some(&outer), &options(&json!(["a.example", "b.other"]))).unwrap();
        assert!(reaches(&inner, "a.example:80"));
        assert!(!reaches(&inner, "b.example:80") && !reaches(&inner, "b.other:80"));
        let innermost = resolved(Some(&inner), &options(&json!(["*.example", "b.other"]))).unwrap();
        assert!(reaches(&innermost, "a.example:80"));
        assert!(!reaches(&innermost, "b.example:80") && !reaches(&innermost, "b.other:80"));
        let none = resolved(Some(&innermost), &options(&json!([]))).unwrap();
        assert!(!reaches(&none, "a.example:80"));
        assert!(!reaches(&resolved(Some(&none), &options(&json!(["a.example"]))).unwrap(), "a.example:80"));
    }
}

#[test]
fn a_frame_that_is_no_fork_has_the_lists_of_its_parent() {
    let parent = resolved(None, &trusted(&json!(["a.example"]))).unwrap();
    let app = app();
    let mut frame = FrameBuilder::new();
    app.resolvers()
        .resolve(&ResolveContext::new(&app, Some(&parent)), &Options::new(), frame.pairs_mut())
        .unwrap();
    assert!(!reaches(&frame.seal(), "b.example:80"));
}

#[test]
fn an_option_of_a_call_does_not_replace_a_preset() {
    let preset = trusted(&json!(["*.example"]));
    for call in [trusted(&json!(["a.example", "b.other"])), untrusted(&json!(["a.example", "b.other"]))] {
        let frame = resolved(None, &preset.merged_under(&call)).unwrap();
        assert!(reaches(&frame, "a.example:80"));
        assert!(!reaches(&frame, "b.example:80") && !reaches(&frame, "b.other:80"));
    }
}

#[test]
fn the_star_of_a_script_grants_nothing() {
    let error = Options::from_untrusted_json(&json!({ "egress": ["*"] })).unwrap_err();
    let source = std::error::Error::source(&error).unwrap();
    assert!(source.to_string().contains("would allow every name"), "{source}");
}

#[test]
fn a_chain_of_equal_lists_does_not_grow() {
    let mut frame = resolved(None, &trusted(&json!(["a.example"]))).unwrap();
    for _ in 0..100 {
        frame = resolved(Some(&frame), &untrusted(&json!(["a.example"]))).unwrap();
        frame = resolved(Some(&frame), &untrusted(&json!(["b.example"]))).unwrap();
        frame = resolved(Some(&frame), &Options::new()).unwrap();
    }
    assert_eq!(lists_of(&frame), 2);
}

#[test]
fn calls_that_nest_in_ever_more_lists_are_refused() {
    let mut frame = resolved(None, &trusted(&json!(["*.example"]))).unwrap();
    for level in 1..32 {
        frame =
            resolved(Some(&frame), &untrusted(&json!(["a.example", format!("{level}.example")]))).unwrap();
    }
    assert_eq!(lists_of(&frame), 32);
    let error = resolved(Some(&frame), &untrusted(&json!(["a.example"]))).unwrap_err();
    assert_eq!(error, EgressError::TooManyLists);
    assert!(error.to_string().contains("32 different `egress` lists"), "{error}");
}

#[test]
fn a_script_gives_few_rules() {
    let rules = |count: usize| json!((0..count).map(|index| format!("{index}.example")).collect::<Vec<_>>());
    resolved(None, &trusted(&rules(257))).unwrap();
    resolved(None, &untrusted(&rules(256))).unwrap();
    assert_eq!(resolved(None, &untrusted(&rules(257))).unwrap_err(), EgressError::TooManyRules);
    let nested = json!([rules(200), rules(57)]);
    assert_eq!(resolved(None, &untrusted(&nested)).unwrap_err(), EgressError::TooManyRules);
}

#[test]
fn the_egress_of_other_crates_narrows_beside_ours() {
    static OTHER: Key<Egress> = Key::new("other.egress").inherit();
    let ours = resolved(None, &trusted(&json!(["a.example", "b.example"]))).unwrap();
    let mut frame = ours.fork();
    frame.push(OTHER.pair(Egress::new(list(&["b.example", "c.example"]))));
    let frame = frame.seal();
    assert!(reaches(&frame, "b.example:80"));
    assert!(!reaches(&frame, "a.example:80") && !reaches(&frame, "c.example:80"));
    assert!(!reaches(&resolved(Some(&frame), &trusted(&json!(["a.example"]))).unwrap(), "a.example:80"));
}

#[test]
fn rules_overlap_if_a_destination_is_covered_by_both() {
    let overlap = |one: &str, other: &str| {
        assert_eq!(rule(one).overlaps(&rule(other)), rule(other).overlaps(&rule(one)));
        rule(one).overlaps(&rule(other))
    };
    assert!(overlap("a.example", "*.example:80"));
    assert!(overlap("*.a.example", "*.example"));
    assert!(overlap("10.0.0.0/8", "10.1.0.0/16:80"));
    assert!(!overlap("a.example:80", "a.example:81-90"));
    assert!(!overlap("example", "*.example"));
    assert!(!overlap("*.a.example", "*.b.example"));
    assert!(!overlap("10.0.0.0/8", "11.0.0.0/8"));
    assert!(!overlap("10.0.0.0/8", "*.example"));
}
