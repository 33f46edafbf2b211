use frame_registry::frame_option;

#[frame_option(name = "tenant", plain)]
pub static TENANT: "String";

fn main() {}
