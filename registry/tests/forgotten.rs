//! The commonest omissions, and the remedies that their errors name.

use std::convert::Infallible;

use frame_registry::{
    App, FrameOption, FrameResolvers, Key, Options, Pair, Pairs, ResolveContext, frame_option, frame_resolver,
};

#[frame_option(name = "tenant")]
static TENANT: FrameOption<String>;
#[frame_option(name = "region", runtime)]
static REGION: FrameOption<String>;

static TENANT_KEY: Key<String> = Key::new("tenant");

#[frame_resolver(order = 100, covers(TENANT))]
fn tenant(_: &ResolveContext<'_>, options: &Options) -> Result<Option<Pair>, Infallible> {
    Ok(options.pair(&TENANT, &TENANT_KEY))
}

fn refused(app: &App, options: &Options) -> String {
    app.resolvers()
        .resolve(&ResolveContext::new(app, None), options, &mut Pairs::new())
        .unwrap_err()
        .to_string()
}

#[test]
fn an_app_that_was_not_given_the_programs_resolvers_is_told_to_be() {
    let app = App::builder().build();
    let refused = refused(&app, &Options::new().with(&TENANT, "acme".to_owned()));
    let remedy =
        "a linked resolver does, so give the app those: `builder.set_resolvers(FrameResolvers::linked())`";
    assert!(refused.ends_with(remedy), "{refused}");
}

#[test]
fn an_option_that_no_linked_resolver_covers_needs_one_to_be_registered() {
    let options = Options::new().with(&REGION, "eu".to_owned());
    let mut linked = App::builder();
    linked.set_resolvers(FrameResolvers::linked()).unwrap();
    for app in [App::builder().build(), linked.build()] {
        let refused = refused(&app, &options);
        assert!(refused.ends_with("register one with `.covers(…)`, or do not set the option"), "{refused}");
    }
}
