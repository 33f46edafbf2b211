//! The options `basic` and `bearer`.

use frame_dispatch::lua::{Values, mlua};
use frame_net::http::Request;

use crate::modules::connect;
use crate::modules::lua::members::{Members, invalid, utf8};

/// The request with the credentials that the options name, if they name any.
pub(super) fn add(request: Request, options: &Members) -> mlua::Result<Request> {
    let (basic, bearer) = (options.table("basic")?, options.text("bearer")?);
    if basic.is_none() && bearer.is_none() {
        return Ok(request);
    }
    if basic.is_some() && bearer.is_some() {
        return Err(invalid("a request has `basic`, or `bearer`, and not both"));
    }
    if request.headers().contains_key("authorization") {
        return Err(invalid(
            "a request has the header `authorization`, or `basic` or `bearer`, which set it, and not both",
        ));
    }
    let request = if let Some(bearer) = bearer {
        request.bearer_auth(&bearer)
    } else {
        let basic = Members::new(basic, "`basic`", &["password", "username"])?;
        let part = |name: &str| {
            let text = basic.string(name)?;
            let text = text.ok_or_else(|| {
                invalid(format!("`basic` has a `username` and a `password`; `{name}` is missing"))
            })?;
            utf8(&text, &format!("`basic.{name}`"))
        };
        request.basic_auth(&part("username")?, &part("password")?)
    };
    request.map_err(|error| Values::raise(connect::of_http(error)))
}
