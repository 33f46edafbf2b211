use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn hop(method: &Method, url: &str, headers: &[(&str, &str)], body: &str) -> Hop {
    let headers = headers.iter().map(|(name, value)| {
        let name: HeaderName = name.parse().unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    });
    let target = Target::parse(url).unwrap();
    let body = Bytes::copy_from_slice(body.as_bytes()).into();
    Hop { headers: headers.collect(), body, forwards_body: true, ..Hop::new(method.clone(), target) }
}

fn follow(from: &str, location: &str) -> Result<String, RefusedRedirect> {
    let from = hop(&Method::GET, from, &[], "");
    let location = HeaderValue::from_bytes(location.as_bytes()).unwrap();
    from.redirected(Reach::Unknown, StatusCode::FOUND, &location, false).map(|hop| hop.target.url.to_string())
}

#[test]
fn only_a_redirect_with_a_location_is_followed() {
    let with: HeaderMap = [(header::LOCATION, HeaderValue::from_static("/"))].into_iter().collect();
    for status in 200..600 {
        let followed = [301, 302, 303, 307, 308].contains(&status);
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(location(status, &with).is_some(), followed, "{status}");
        assert!(location(status, &HeaderMap::new()).is_none());
    }
}

#[test]
fn a_location_is_relative_to_the_url() {
    let from = "http://a.example:81/b/c?d#e";
    let cases = [
        ("f", "http://a.example:81/b/f#e"),
        ("/f?g", "http://a.example:81/f?g#e"),
        ("#f", "http://a.example:81/b/c?d#f"),
        ("?", "http://a.example:81/b/c?#e"),
        ("//b.example/ü", "http://b.example/%C3%BC#e"),
        ("https://b.example", "https://b.example/#e"),
        ("HTTP://B.example:80#", "http://b.example/#"),
    ];
    for (location, expected) in cases {
        assert_eq!(follow(from, location).unwrap(), expected, "{location}");
    }
}

#[test]
fn a_location_that_is_not_utf_8_keeps_its_bytes() {
    let from = hop(&Method::GET, "http://a.example/", &[], "");
    let follow = |location: &[u8]| {
        let location = HeaderValue::from_bytes(location).unwrap();
        from.redirected(Reach::Unknown, StatusCode::FOUND, &location, false)
            .map(|hop| hop.target.url.to_string())
    };
    assert_eq!(follow(b"/caf\xe9?\xfc").unwrap(), "http://a.example/caf%E9?%FC");
    assert_eq!(follow("/caf\u{e9}".as_bytes()).unwrap(), "http://a.example/caf%C3%A9");
    follow(b"http://caf\xe9.example/").unwrap_err();
}

#[test]
fn a_body_goes_to_another_origin_only_if_asked() {
    let mut from = hop(&Method::PUT, "http://a.example/", &[], "body");
    from.forwards_body = false;
    let follow = |from: &Hop, to: &'static str| {
        from.redirected(Reach::Unknown, StatusCode::TEMPORARY_REDIRECT, &HeaderValue::from_static(to), false)
    };
    let refused = follow(&from, "http://b.example/").unwrap_err();
    assert_eq!((refused.to.as_str(), refused.why), ("http://b.example", RedirectError::Body));
    assert_eq!(follow(&from, "/b").unwrap().body.as_bytes().unwrap(), b"body");
    from.forwards_body = true;
    assert_eq!(follow(&from, "http://b.example/").unwrap().body.as_bytes().unwrap(), b"body");
    (from.forwards_body, from.body) = (false, Body::default());
    follow(&from, "http://b.example/").unwrap();
}

#[test]
fn no_redirect_leads_where_no_request_can_go() {
    let refused = |location: &str| {
        let RefusedRedirect { to, why } = follow("https://a.example/31337", location).unwrap_err();
        assert!(!to.contains("31337"), "{to}");
        (to, why)
    };
    let scheme = RedirectError::Url(UrlError::Scheme);
    assert_eq!(refused("ftp://b.example/31337"), ("ftp://b.example".to_owned(), scheme));
    assert_eq!(refused("javascript:31337"), ("the scheme `javascript`".to_owned(), scheme));
    assert_eq!(refused("file:///31337").1, scheme);
    let userinfo = RedirectError::Url(UrlError::Userinfo);
    assert_eq!(refused("https://31337@b.example/"), ("https://b.example".to_owned(), userinfo));
    assert_eq!(refused("https://a:31337@b.example:1/"), ("https://b.example:1".to_owned(), userinfo));
    assert_eq!(refused("//").0, "an invalid URL");
    assert!(matches!(refused("https://a..b/").1, RedirectError::Url(UrlError::Host(_))));
}

#[test]
fn a_downgrade_must_be_allowed() {
    let from = hop(&Method::GET, "https://a.example/", &[("authorization", "x")], "");
    let location = HeaderValue::from_static("http://a.example/");
    let refused = from.redirected(Reach::Unknown, StatusCode::FOUND, &location, false).unwrap_err();
    assert_eq!((refused.to.as_str(), refused.why), ("http://a.example", RedirectError::Downgrade));
    let allowed = from.redirected(Reach::Unknown, StatusCode::FOUND, &location, true).unwrap();
    assert!(allowed.headers.is_empty(), "another scheme is another origin");
}

#[test]
fn a_redirect_from_a_public_host_to_a_special_one_is_refused() {
    let special = [
        "http://127.0.0.1/",
        "http://0x7f.1:81/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/31337",
        "http://[::1]/",
        "http://[::ffff:8.8.8.8]/",
        "http://[64:ff9b::10.0.0.1]/",
        "http://[2a00::5efe:10.0.0.1]/",
        "http://localhost/",
        "http://LOCALHOST.:8080/",
        "http://a.b.localhost/",
        "http://ip6-loopback/",
        "http://localhost.localdomain/",
        "http://metadata.google.internal./",
    ];
    for to in special {
        for from in ["http://a.example/", "http://8.8.8.8/", "http://[2a00::1]/", "http://notlocalhost/"] {
            let from = hop(&Method::GET, from, &[], "");
            let refused =
                from.redirected(Reach::Unknown, StatusCode::FOUND, &to.parse().unwrap(), true).unwrap_err();
            assert_eq!(refused.why, RedirectError::Special, "{to}");
            assert!(!refused.to.contains("31337"), "{}", refused.to);
        }
        for from in special {
            follow(from, to).unwrap();
            follow(from, "http://a.example/").unwrap();
        }
    }
}

#[test]
fn a_value_that_is_marked_stays_within_the_origin() {
    let mut from = hop(&Method::GET, "http://a.example/", &[("x-key", "a"), ("x-other", "b")], "");
    from.headers.get_mut("x-key").unwrap().set_sensitive(true);
    let same =
        from.redirected(Reach::Unknown, StatusCode::FOUND, &HeaderValue::from_static("/b"), false).unwrap();
    assert_eq!(same.headers.len(), 2);
    let other = from
        .redirected(Reach::Unknown, StatusCode::FOUND, &HeaderValue::from_static("//b.example"), false)
        .unwrap();
    assert_eq!(other.headers.keys().collect::<Vec<_>>(), ["x-other"]);
}

/// What the Fetch standard makes of a method, or else nothing.
const REWRITTEN: [(u16, &str); 6] =
    [(301, "POST"), (302, "POST"), (303, "POST"), (303, "PUT"), (303, "DELETE"), (303, "PATCH")];

proptest! {
    #[test]
    fn every_redirect_is_as_the_model_says(
        status in prop::sample::select(vec![301_u16, 302, 303, 307, 308]),
        method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]),
        from in prop::sample::select(vec!["http://a.example/", "http://a.example:81/", "https://a.example/"]),
        to in prop::sample::select(vec!["http://a.example/", "http://b.example/", "https://a.example/"]),
        headers in prop::sample::subsequence(
            vec![
                "authorization", "cookie", "cookie2", "proxy-authorization", "www-authenticate", "x-api-key",
                "x-auth-token", "referer", "content-type", "accept", "x-a",
            ],
            0..=11,
        ),
    ) {
        let with: Vec<_> = headers.iter().map(|&name| (name, "v")).collect();
        let hop = hop(&method.parse().unwrap(), from, &with, "body");
        let followed = hop.redirected(Reach::Unknown, StatusCode::from_u16(status).unwrap(), &to.parse().unwrap(), false);
        if from.starts_with("https:") && to.starts_with("http:") {
            prop_assert_eq!(followed.unwrap_err().why, RedirectError::Downgrade);
            return Ok(());
        }
        let followed = followed.unwrap();
        let is_rewritten = REWRITTEN.contains(&(status, method));
        prop_assert_eq!(followed.method.as_str(), if is_rewritten { "GET" } else { method });
        // What a GET is redirected to has no body, and with 303 it loses one that it had.
        let loses_body = is_rewritten || (status == 303 && method == "GET");
        prop_assert_eq!(followed.body.as_bytes().unwrap().len(), if loses_body { 0 } else { 4 });
        let expected = headers.into_iter().filter(|&name| match name {
            "content-type" => !loses_body,
            "accept" | "x-a" => true,
            _ => from == to,
        });
        let mut found: Vec<_> = followed.headers.keys().map(HeaderName::as_str).collect();
        found.sort_unstable();
        let mut expected: Vec<_> = expected.collect();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}
