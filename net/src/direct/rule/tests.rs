use proptest::prelude::*;

use super::*;

fn rule(text: &str) -> Rule {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn error(text: &str) -> String {
    text.parse::<Rule>().expect_err(text).to_string()
}

#[test]
fn shows_itself_as_short_as_it_can_be_written() {
    for (written, shown) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.0.0.0/8:443", "10.0.0.0/8:443"),
        ("10.0.0.0/8:443-443", "10.0.0.0/8:443"),
        ("10.0.0.0/8:1-65535", "10.0.0.0/8"),
        ("fd00::/8", "fd00::/8"),
        ("[fd00::/8]", "fd00::/8"),
        ("[FD00:0::/8]:443", "[fd00::/8]:443"),
        ("::1", "::1"),
        ("[::1]:8000-8999", "[::1]:8000-8999"),
        ("::ffff:0:0/96", "::ffff:0.0.0.0/96"),
        ("Example.COM.", "example.com"),
        ("*.Example.com.:25", "*.example.com:25"),
        ("*", "*"),
        ("*:25", "*:25"),
        ("localhost", "localhost"),
        ("1.2.3.x", "1.2.3.x"),
    ] {
        assert_eq!(rule(written).to_string(), shown);
        assert_eq!(rule(shown), rule(written));
    }
}

#[test]
fn a_block_with_bits_behind_its_prefix_is_refused_with_the_rules_that_are_meant() {
    let proposals = [
        ("10.1.2.3/8", "`10.0.0.0/8`", "`10.1.2.3`"),
        ("10.1.2.3/8:443", "`10.0.0.0/8:443`", "`10.1.2.3:443`"),
        ("fd00::1/8", "`fd00::/8`", "`fd00::1`"),
        ("[fd12::1/8]:1-2", "`[fd00::/8]:1-2`", "`[fd12::1]:1-2`"),
        ("1.0.0.0/0", "`0.0.0.0/0`", "`1.0.0.0`"),
    ];
    for (text, range, address) in proposals {
        assert_eq!(
            error(text),
            format!(
                "the rule `{text}` has bits set behind its prefix; write {range} for the whole range, or {address} \
                 for the one address"
            )
        );
        for proposal in [range, address] {
            rule(proposal.trim_matches('`'));
        }
    }
}

#[test]
fn an_error_says_what_to_write_instead() {
    let table = [
        ("", "a rule cannot be empty; write an address"),
        ("a:0", "has no port from 1 to 65535"),
        ("a:", "has no port"),
        ("a:65536", "has no port"),
        ("a:+1", "has no port"),
        ("a:1-", "has no port"),
        ("a:-1", "has no port"),
        ("a:1-2-3", "has no port"),
        ("a:http", "write one, such as `443`, or several, such as `8000-8999`"),
        ("a:9-5", "the rule `a:9-5` has a range of ports that ends before it begins; write `5-9`"),
        ("fd00::/8:443", "write brackets around such an address where a port follows"),
        ("a:b:c", "has colons and is no IPv6 address"),
        ("1:2:3/64", "has colons and is no IPv6 address"),
        ("[fd00::]/8", "and only the port behind them, as in `[fd00::/8]:443`"),
        ("[fd00::/8", "has brackets that are not around an IPv6 address"),
        ("[fd00::/8]443", "has brackets"),
        ("[10.0.0.0/8]:443", "has brackets"),
        ("[a.example]:443", "has brackets"),
        ("[::1]:", "has no port"),
        ("fe80::1%eth0", "leave out the `%`"),
        ("[fe80::%1/10]:80", "leave out the `%`"),
        ("10.0.0.0/33", "has no number from 0 to 32 behind its `/`"),
        ("10.0.0.0/", "has no number from 0 to 32"),
        ("10.0.0.0/08", "has no number from 0 to 32"),
        ("10.0.0.0/+8", "has no number from 0 to 32"),
        ("10.0.0.0/255.0.0.0", "has no number from 0 to 32"),
        ("fd00::/129", "has no number from 0 to 128"),
        ("10/8", "write an address in full, as in `10.0.0.0/8`"),
        ("example.com/path", "or a name without path"),
        ("*.*.example.com", "write `*.example.com` for the names below `example.com`"),
        ("a*.example.com", "has a `*` in the wrong place"),
        ("*example.com", "has a `*` in the wrong place"),
        ("example.*", "has a `*` in the wrong place"),
        ("*.", "has a `*` in the wrong place"),
        ("**", "has a `*` in the wrong place"),
        ("127.1", "is neither an address nor a name: a host name cannot end in a number"),
        ("010.0.0.1", "is neither an address nor a name: a host name cannot end in a number"),
        ("*.127.1", "is neither an address nor a name: a host name cannot end in a number"),
        (" a", "is neither an address nor a name: a host name cannot have ' ' in it"),
        ("bücher.example", "an international name in its ASCII form"),
        ("a..b", "is neither an address nor a name: a host name cannot have an empty label"),
        ("!a", "is neither an address nor a name"),
    ];
    for (text, part) in table {
        let error = error(text);
        assert!(error.contains(part), "{text}: {error}");
        let begins = if text.is_empty() { "a rule ".to_owned() } else { format!("the rule `{text}` ") };
        assert!(error.starts_with(&begins), "{text}: {error}");
    }
}

#[test]
fn what_may_have_a_password_in_it_is_not_shown() {
    for text in ["https://u:31337@example.com", "u:31337@example.com", "https://example.com/31337"] {
        let error = error(text);
        assert!(!error.contains("31337") && error.contains("write it without scheme"), "{error}");
    }
}

#[test]
fn a_name_is_no_address_rule_and_an_address_no_name_rule() {
    let error = "example.com:80".parse::<AddressRule>().unwrap_err().to_string();
    assert!(error.contains("only addresses can be listened at; write an address"), "{error}");
    let error = "10.0.0.0/8".parse::<NameRule>().unwrap_err().to_string();
    assert!(error.contains("is an address, where a name is expected"), "{error}");
    assert_eq!("*.a:80".parse::<NameRule>().unwrap().to_string(), "*.a:80");
}

#[test]
fn names_match_without_case_and_without_the_last_dot() {
    let matches = |rule: &str, name: &str| rule.parse::<NameRule>().unwrap().covers(&name.parse().unwrap());
    for (rule, name) in [
        ("example.com", "example.com"),
        ("example.com", "EXAMPLE.com."),
        ("EXAMPLE.com.", "example.com"),
        ("*.example.com", "a.example.com"),
        ("*.example.com", "a.b.C.Example.Com."),
        ("*.example.com.", "a.example.com"),
        ("*", "localhost"),
    ] {
        assert!(matches(rule, name), "{rule} {name}");
    }
    for (rule, name) in [
        ("example.com", "a.example.com"),
        ("example.com", "example.com.org"),
        ("example.com", "xexample.com"),
        ("*.example.com", "example.com"),
        ("*.example.com", "example.com."),
        ("*.example.com", "xexample.com"),
        ("*.example.com", "a.example.com.org"),
        ("*.example.com", "com"),
    ] {
        assert!(!matches(rule, name), "{rule} {name}");
    }
}

/// Text that is a rule.
fn rules() -> impl Strategy<Value = String> {
    let v4 = (any::<u32>(), 0_u32..=32).prop_map(|(bits, prefix)| {
        let bits = bits & u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        format!("{}/{prefix}", std::net::Ipv4Addr::from_bits(bits))
    });
    let v6 = (any::<u128>(), 0_u32..=128).prop_map(|(bits, prefix)| {
        let bits = bits & u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
        format!("[{}/{prefix}]", std::net::Ipv6Addr::from_bits(bits))
    });
    let name = prop_oneof![Just("*".to_owned()), "(\\*\\.)?([A-Za-z0-9_-]{1,9}\\.){0,3}[A-Za-z]{1,5}\\.?"];
    let ports = prop_oneof![
        Just(String::new()),
        (1_u16..).prop_map(|port| format!(":{port}")),
        (1_u16.., 1_u16..).prop_map(|(a, b)| format!(":{}-{}", a.min(b), a.max(b))),
    ];
    (prop_oneof![v4, v6, name], ports).prop_map(|(target, ports)| target + &ports)
}

proptest! {
    #[test]
    fn a_rule_that_is_shown_is_read_as_the_same(text in rules()) {
        let read = rule(&text);
        let shown = read.to_string();
        prop_assert_eq!(rule(&shown), read.clone());
        prop_assert_eq!(rule(&shown).to_string(), shown);
        let read_from_json: Rule = serde_json::from_value(text.into()).unwrap();
        prop_assert_eq!(read_from_json, read);
    }

    #[test]
    fn no_text_is_read_as_something_that_shows_itself_otherwise(text in "[0-9a-f:./*\\[\\]%@ -]{0,24}") {
        if let Ok(read) = text.parse::<Rule>() {
            prop_assert_eq!(rule(&read.to_string()), read);
        }
    }
}
