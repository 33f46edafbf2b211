//! A check of the option `egress`, beside the loopback connection that it comes before.

#[path = "harness/mod.rs"]
mod harness;

use std::hint::black_box;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use frame_net::{Dialer, Egress, EgressList, Endpoint};
use frame_registry::{App, FrameBuilder, FrameResolvers, Options, ResolveContext};
use harness::{Suite, opaque};
use serde_json::json;

/// The dialer of a frame on clearnet.
fn dialer() -> Dialer {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).expect("they are wired rightly");
    let config = json!({ "clearnet": { "allow": ["127.0.0.1"] } });
    frame_net::boot(&mut app, serde_json::from_value(config).expect("it is right"))
        .expect("clearnet is there");
    let app = app.build();
    let mut frame = FrameBuilder::new();
    app.resolvers()
        .resolve(&ResolveContext::new(&app, None), &Options::new(), frame.pairs_mut())
        .expect("nothing is refused");
    frame_net::dialer(&frame.seal(), &app).expect("clearnet is there")
}

/// A list of `count` rules of all kinds, whose last covers `last`.
fn list(count: usize, last: &str) -> Egress {
    let rules = (1..count).map(|index| match index % 5 {
        0 => format!("*.zone-{index}.example.com"),
        1 => format!("host-{index}.example.com:443"),
        2 => format!("*.a.b.zone-{index}.example.org:8000-8999"),
        3 => format!("10.{}.{}.0/{}", index >> 8 & 255, index & 255, 24 + index % 9),
        _ => format!("2001:db8:{index:x}::/{}", 48 + index % 17),
    });
    Egress::new(EgressList::parse(rules.chain([last.to_owned()])).expect("they are rules"))
}

/// A server that closes whatever connects.
fn server() -> Endpoint {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || listener.incoming().for_each(drop));
    Endpoint::try_from(address).expect("it has a port")
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (dialer, to) = (dialer(), server());
    let endpoint = |text: &str| text.parse::<Endpoint>().expect("an endpoint");
    let name = endpoint("a.b.c.api.example.net:443");
    let address = endpoint("192.0.2.77:443");
    let refused = endpoint("a.b.c.api.example.invalid:443");

    let mut suite = Suite::new("egress");
    suite.case("a loopback connection, without a list", || {
        drop(runtime.block_on(dialer.connect(&to)).expect("the server is there"));
    });
    let mut checks = Vec::new();
    for count in [1, 100, 10_000] {
        let (names, addresses) = (list(count, "*.api.example.net:443"), list(count, "192.0.2.0/24"));
        let cases =
            ["a name", "an address", "a name that is refused"].map(|what| format!("{what}, {count} rules"));
        suite
            .case(&cases[0], || {
                assert!(black_box(opaque(&names).check(opaque(&name))).is_allowed());
            })
            .case(&cases[1], || {
                assert!(black_box(opaque(&addresses).check(opaque(&address))).is_allowed());
            })
            .case(&cases[2], || {
                assert!(!black_box(opaque(&names).check(opaque(&refused))).is_allowed());
            });
        checks.extend(cases);
    }
    let chain = |last: &str| {
        let lists = (0..8).map(|level| list(100 + level, last));
        lists.reduce(|outer, inner| outer.narrowed_by(&inner)).expect("there are lists")
    };
    let (names, addresses) = (chain("*.api.example.net:443"), chain("192.0.2.0/24"));
    let cases = ["a name", "an address"].map(|what| format!("{what}, 8 lists of 100 rules"));
    suite
        .case(&cases[0], || {
            assert!(black_box(opaque(&names).check(opaque(&name))).is_allowed());
        })
        .case(&cases[1], || {
            assert!(black_box(opaque(&addresses).check(opaque(&address))).is_allowed());
        });
    checks.extend(cases);
    for case in checks {
        assert!(suite.allocations(&case).is_none_or(|allocations| allocations == 0), "{case} allocates");
    }
    suite.finish();
}
