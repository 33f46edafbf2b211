//! What a history is made of.

use std::time::Duration;

use proptest::prelude::*;

/// Which process something is done to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    /// One of those that live, if any does.
    Living(u8),
    /// One of all that were ever started, if any was.
    Any(u8),
    /// One that nothing was started as.
    Unknown,
}

/// What a process does when it hears that it is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnCancel {
    GoOn,
    BeDone,
    SayCancelled,
    Fail,
}

/// How a process ends that is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    Fail,
    SayCancelled,
    Panic,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum To {
    Process(Which),
    Name(u8),
}

/// One step of a history. What has a `by` is done by that process, or from outside if it is none.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Spawn {
        by: Option<Which>,
        host: u8,
        name: Option<u8>,
        link: bool,
        monitor: bool,
        on_cancel: OnCancel,
    },
    StartOrSignal {
        host: u8,
        name: u8,
    },
    Link {
        by: Option<Which>,
        one: Which,
        other: Which,
    },
    Unlink {
        by: Option<Which>,
        one: Which,
        other: Which,
    },
    Monitor {
        by: Which,
        other: Which,
    },
    Demonitor {
        by: Which,
        other: Which,
    },
    Watch {
        process: Which,
    },
    DropWatch {
        index: u8,
    },
    Register {
        name: u8,
        process: Which,
    },
    Unregister {
        name: u8,
    },
    Trap {
        by: Which,
        traps: bool,
    },
    /// It receives nothing but what it is told to do, or everything again.
    Deafen {
        by: Which,
        is_deaf: bool,
    },
    Send {
        by: Option<Which>,
        to: To,
    },
    Cancel {
        process: Which,
        grace: Duration,
    },
    Terminate {
        process: Which,
    },
    End {
        process: Which,
        ending: Ending,
    },
    Pass {
        time: Duration,
    },
    StopHost {
        host: u8,
    },
}

/// Apart from each other, and from the steps of time that histories go in, whatever is added to them.
pub(crate) const GRACES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_millis(10_007), Duration::MAX];

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        20 => any::<u8>().prop_map(Which::Living),
        5 => any::<u8>().prop_map(Which::Any),
        1 => Just(Which::Unknown),
    ]
}

fn by() -> impl Strategy<Value = Option<Which>> {
    proptest::option::of(any::<u8>().prop_map(Which::Living))
}

fn name() -> impl Strategy<Value = u8> {
    0..3_u8
}

fn on_cancel() -> impl Strategy<Value = OnCancel> {
    use OnCancel::{BeDone, Fail, GoOn, SayCancelled};

    prop_oneof![2 => Just(GoOn), 1 => Just(BeDone), 1 => Just(SayCancelled), 1 => Just(Fail)]
}

fn ending() -> impl Strategy<Value = Ending> {
    proptest::sample::select(vec![Ending::Done, Ending::Fail, Ending::SayCancelled, Ending::Panic])
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![which().prop_map(To::Process), name().prop_map(To::Name)]
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    use Operation as O;

    let start = (by(), 0..2_u8, proptest::option::weighted(0.3, name()), any::<bool>(), any::<bool>());
    let start = (start, on_cancel()).prop_map(|((by, host, name, link, monitor), on_cancel)| O::Spawn {
        by,
        host,
        name,
        link,
        monitor,
        on_cancel,
    });
    prop_oneof![
        12 => start,
        1 => (0..2_u8, name()).prop_map(|(host, name)| O::StartOrSignal { host, name }),
        6 => (by(), which(), which()).prop_map(|(by, one, other)| O::Link { by, one, other }),
        3 => (by(), which(), which()).prop_map(|(by, one, other)| O::Unlink { by, one, other }),
        6 => (which(), which()).prop_map(|(by, other)| O::Monitor { by, other }),
        3 => (which(), which()).prop_map(|(by, other)| O::Demonitor { by, other }),
        3 => which().prop_map(|process| O::Watch { process }),
        1 => any::<u8>().prop_map(|index| O::DropWatch { index }),
        2 => (name(), which()).prop_map(|(name, process)| O::Register { name, process }),
        1 => name().prop_map(|name| O::Unregister { name }),
        3 => (which(), proptest::bool::weighted(0.7)).prop_map(|(by, traps)| O::Trap { by, traps }),
        3 => (which(), any::<bool>()).prop_map(|(by, is_deaf)| O::Deafen { by, is_deaf }),
        3 => (by(), to()).prop_map(|(by, to)| O::Send { by, to }),
        3 => (which(), proptest::sample::select(GRACES.to_vec()))
            .prop_map(|(process, grace)| O::Cancel { process, grace }),
        2 => which().prop_map(|process| O::Terminate { process }),
        5 => (which(), ending()).prop_map(|(process, ending)| O::End { process, ending }),
        1 => (1..6_u64).prop_map(|seconds| O::Pass { time: Duration::from_secs(seconds) }),
        1 => (0..2_u8).prop_map(|host| O::StopHost { host }),
    ]
}
