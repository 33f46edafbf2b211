use frame_dispatch::{CallContext, Functions, Json};
use frame_registry::Options;

struct NoRoom;

async fn increment(_: CallContext, Json(n): Json<u64>) -> Result<Json<u64>, NoRoom> {
    n.checked_add(1).map(Json).ok_or(NoRoom)
}

fn register(functions: &Functions) {
    functions.register("app:f".parse().unwrap(), Options::new(), increment).unwrap();
}

fn main() {}
