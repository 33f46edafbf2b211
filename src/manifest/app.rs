//! `[app]`.

use super::document::Known;
use super::model::AppSection;
use super::options::{Taker, options};
use super::reader::Table;

/// What an app without a name is called whose directory has none either.
const NAMELESS: &str = "app";

/// The section, with a name in any case.
pub(super) fn app(document: &Table<'_>, networks: &Known<frame_net::NetworkKind>) -> AppSection {
    let mut app = AppSection::default();
    let table = document.optional("app", |value| value.table("`[app]`", "{ name = \"hello\" }"));
    if let Ok(Some(table)) = table {
        table.only(&["max_depth", "name", "options"]);
        if let Ok(depth) = table.or("max_depth", None, |depth| depth.u32(1, "1000").map(Some)) {
            app.functions = depth.map_or(app.functions, |depth| app.functions.with_max_depth(depth));
        }
        if let Ok(name) = table
            .or("name", "", |name| name.filled("\"hello\"", "leave it out for the name of the directory"))
        {
            name.clone_into(&mut app.name);
        }
        if let Ok((options, given)) = options(&table, Taker::Everything, networks) {
            (app.options, app.given) = (options, given);
        }
    }
    if app.name.is_empty() {
        let directory = document.reader.directory.canonicalize().unwrap_or_default();
        app.name =
            directory.file_name().map_or_else(|| NAMELESS.into(), |name| name.to_string_lossy().into_owned());
    }
    app
}
