//! What a request costs the client in instructions and allocations, beside reqwest, on one thread.

// The modules are those of the rates, which use all that is in them.
#![allow(dead_code)]

mod contenders;
#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../src/command/demo/relay.rs"]
mod relay;
mod server;

use contenders::{Contender, NAMES};
use harness::{Suite, opaque};
use server::{PROTOCOLS, Server};
use tokio::runtime::Builder;

fn main() {
    let server = Server::start();
    let runtime = Builder::new_current_thread().enable_all().build().expect("this machine can");
    let contenders = Contender::all(&server, false);
    let mut suite = Suite::new("http");
    for protocol in PROTOCOLS {
        let url = server.url(protocol, "/");
        for (contender, name) in contenders.iter().zip(NAMES) {
            let case = format!("{}: {name}", protocol.name());
            suite.case(&case, || {
                runtime.block_on(opaque(contender).get(&url));
            });
        }
        for (contender, name) in contenders.iter().zip(NAMES) {
            let case = format!("{}, 16 at once: {name}", protocol.name());
            suite.case(&case, || runtime.block_on(opaque(contender).get_all(&url, 16, 16)));
        }
    }
    suite.finish();
}
