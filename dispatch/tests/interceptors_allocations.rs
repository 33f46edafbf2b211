//! What the interceptors that are built in cost a call that uses none of them: no allocation.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use frame_dispatch::{CallContext, Functions, Payload, Task};
use frame_registry::{App, Options};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is handed to `System` as it is. The count is a thread-local without a destructor and without lazy
// initialisation, so that counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// How often a call allocates.
async fn allocations(functions: &Functions) -> u64 {
    let root = functions.root();
    let task = Task::new("app:f".parse().unwrap());
    root.call(task.clone()).await.unwrap();
    let before = ALLOCATIONS.get();
    root.call(task).await.unwrap();
    ALLOCATIONS.get() - before
}

#[tokio::test]
async fn a_call_that_uses_no_interceptor_allocates_no_more_than_one_that_has_none() {
    let functions = Functions::new(App::builder().build());
    functions
        .register("app:f".parse().unwrap(), Options::new(), async |_: CallContext, payload: Payload| {
            Ok(payload)
        })
        .unwrap();
    let with = allocations(&functions).await;
    assert_eq!(functions.interceptors().names().len(), 5);
    for name in functions.interceptors().names() {
        functions.interceptors().unregister(name);
    }
    assert_eq!(with, allocations(&functions).await);
}
