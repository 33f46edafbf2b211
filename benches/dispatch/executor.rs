//! The executor around a native function that does nothing, and a dispatcher written by hand for the same options.

#[path = "at_once.rs"]
mod at_once;
#[path = "../harness/mod.rs"]
mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use frame_dispatch::{
    ATTEMPT, BoxFuture, CallContext, CallError, FUNCTION, FunctionId, Functions, Host, PID, Payload, Pid,
    Task,
};
use frame_registry::{App, Frame, FrameBuilder, FrameResolvers, Options};

use self::at_once::at_once;
use self::harness::{Suite, opaque};

/// `executor!(count);` defines that many resolvers, each making a pair of the option that it covers, and the `main` that
/// measures a call that sets them all.
macro_rules! executor {
    ($count:tt) => {
        seq_macro::seq!(N in 0..$count {
            #(
                executor!(@option N, OPTION~N);
                static KEY~N: frame_registry::Key<String> = frame_registry::Key::new("option").inherit();

                #[frame_registry::frame_resolver(order = N, covers(OPTION~N))]
                #[allow(clippy::unnecessary_wraps)]
                fn resolver~N(
                    _: &frame_registry::ResolveContext<'_>,
                    options: &frame_registry::Options,
                ) -> Result<Option<frame_registry::Pair>, std::convert::Infallible> {
                    Ok(options.pair(&OPTION~N, &KEY~N))
                }
            )*

            fn main() {
                let options = frame_registry::Options::new()#(.with(&OPTION~N, String::new()))*;
                executor::measure(module_path!(), $count, &options, |_frame, _options| {
                    #(
                        if let Some(pair) = _options.pair(&OPTION~N, &KEY~N) {
                            _frame.push(pair);
                        }
                    )*
                });
            }
        });
    };

    // Names of options are literals.
    (@option 0, $static:ident) => { executor!(@named "option0", $static); };
    (@option 1, $static:ident) => { executor!(@named "option1", $static); };
    (@option 2, $static:ident) => { executor!(@named "option2", $static); };
    (@option 3, $static:ident) => { executor!(@named "option3", $static); };
    (@option 4, $static:ident) => { executor!(@named "option4", $static); };
    (@option 5, $static:ident) => { executor!(@named "option5", $static); };
    (@option 6, $static:ident) => { executor!(@named "option6", $static); };
    (@option 7, $static:ident) => { executor!(@named "option7", $static); };
    (@named $name:literal, $static:ident) => {
        #[frame_registry::frame_option(name = $name)]
        static $static: frame_registry::FrameOption<String>;
    };
}

/// A dispatcher that knows every option. It finds the function, makes the same frame, and hands it over in the same way;
/// it has neither bounds nor interceptors nor draining, and a panic is its caller's.
struct ByHand<Wire> {
    app: App,
    functions: ArcSwap<BTreeMap<FunctionId, Arc<Entry>>>,
    wire: Wire,
}

struct Entry {
    id: Arc<FunctionId>,
    host: Host,
    options: Options,
    function: Box<HandFunction>,
}

type HandFunction = dyn Fn(HandCtx, Payload) -> BoxFuture<'static, Result<Payload, CallError>> + Send + Sync;

struct HandCtx {
    frame: Frame,
    _app: App,
}

impl<Wire: Fn(&mut FrameBuilder, &Options)> ByHand<Wire> {
    async fn call(&self, parent: Option<&Frame>, task: &HandTask) -> Result<Payload, CallError> {
        let entry = self.functions.load().get(&task.function).cloned();
        let entry = entry.ok_or_else(|| CallError::invalid("no such function"))?;
        let options = entry.options.merged_under(&task.options);
        let mut frame = parent.map_or_else(FrameBuilder::new, Frame::fork);
        frame
            .push(FUNCTION.pair_shared(Arc::clone(&entry.id)))
            .set(&PID, Pid::next(entry.host))
            .set(&ATTEMPT, 1);
        (self.wire)(&mut frame, &options);
        let ctx = HandCtx { frame: frame.seal(), _app: self.app.clone() };
        (entry.function)(ctx, Payload::default()).await
    }
}

struct HandTask {
    function: FunctionId,
    options: Options,
}

pub(crate) fn measure(
    suite: &'static str,
    count: usize,
    options: &Options,
    wire: impl Fn(&mut FrameBuilder, &Options),
) {
    let mut app = App::builder();
    app.set_resolvers(FrameResolvers::linked()).expect("there are none yet");
    let app = app.build();
    assert_eq!(app.resolvers().iter().count(), count);
    let id: FunctionId = "bench:nothing".parse().expect("it is one");

    let functions = Functions::new(app.clone());
    let nothing = async |ctx: CallContext, payload: Payload| {
        opaque(ctx.frame());
        Ok(payload)
    };
    functions.register(id.clone(), Options::new(), nothing).expect("the id is free");
    let root = functions.root();

    let function: Box<HandFunction> = Box::new(|ctx, payload| {
        Box::pin(async move {
            opaque(&ctx.frame);
            Ok(payload)
        })
    });
    let host = Host::named(id.as_str());
    let entry = Entry { id: Arc::new(id.clone()), host, options: Options::new(), function };
    let entries = BTreeMap::from([(id.clone(), Arc::new(entry))]);
    let by_hand = ByHand { app, functions: ArcSwap::from_pointee(entries), wire };

    let mut suite = Suite::new(suite);
    suite
        .case("by hand", || {
            let task = HandTask { function: id.clone(), options: opaque(options).clone() };
            assert!(at_once(by_hand.call(None, &task)).is_ok());
        })
        .case("executor", || {
            let task = Task::new(id.clone()).with_options(opaque(options).clone());
            assert!(at_once(root.call(task)).is_ok());
        });
    assert!(suite.allocations("executor") <= suite.allocations("by hand"));
    suite.finish();
}
