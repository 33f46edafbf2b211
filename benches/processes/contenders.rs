//! Processes of this crate, and actors of its peers, doing the same.

use frame_dispatch::Pid;
use frame_dispatch::process::Spawn;

use crate::frames::Frames;
use crate::{with_kameo, with_ractor};

/// How many processes send to one, where many do.
pub(crate) const MANY: u32 = 16;

pub(crate) const NAMES: [&str; 3] = ["frame-dispatch", "ractor", "kameo"];

/// One of [`NAMES`], with what it needs alive.
pub(crate) enum Contender {
    Frames {
        frames: Box<Frames>,
        nothing: Box<Spawn>,
        player: Pid,
        caller: Pid,
        one: Vec<Pid>,
        many: Vec<Pid>,
    },
    Ractor {
        players: with_ractor::Players,
        caller: with_ractor::Caller,
        one: with_ractor::Senders,
        many: with_ractor::Senders,
    },
    Kameo {
        players: with_kameo::Players,
        caller: with_kameo::Caller,
        one: with_kameo::Senders,
        many: with_kameo::Senders,
    },
}

impl Contender {
    /// On the runtime that this is called on.
    pub(crate) async fn all() -> [Self; 3] {
        let frames = Box::new(Frames::new());
        let nothing = Box::new(frames.of("bench:nothing"));
        let (player, caller) = (frames.players(), frames.caller());
        let (one, many) = (frames.senders(1), frames.senders(MANY));
        [
            Self::Frames { frames, nothing, player, caller, one, many },
            Self::Ractor {
                players: with_ractor::Players::new().await,
                caller: with_ractor::Caller::new().await,
                one: with_ractor::Senders::new(1).await,
                many: with_ractor::Senders::new(MANY).await,
            },
            Self::Kameo {
                players: with_kameo::Players::new().await,
                caller: with_kameo::Caller::new(),
                one: with_kameo::Senders::new(1),
                many: with_kameo::Senders::new(MANY),
            },
        ]
    }

    /// Starts so many, each when the one before has ended.
    pub(crate) async fn exec(&self, count: u32) {
        match self {
            Self::Frames { frames, nothing, .. } => frames.exec(nothing, count).await,
            Self::Ractor { .. } => with_ractor::exec(count).await,
            Self::Kameo { .. } => with_kameo::exec(count).await,
        }
    }

    /// Starts so many, and waits for the end of all.
    pub(crate) async fn exec_all(&self, count: u32) {
        match self {
            Self::Frames { frames, nothing, .. } => frames.exec_all(nothing, count).await,
            Self::Ractor { .. } => with_ractor::exec_all(count).await,
            Self::Kameo { .. } => with_kameo::exec_all(count).await,
        }
    }

    /// A message from one to another, and one back.
    pub(crate) async fn round_trips(&self, count: u32) {
        match self {
            Self::Frames { frames, player, .. } => frames.play(*player, count).await,
            Self::Ractor { players, .. } => players.play(count).await,
            Self::Kameo { players, .. } => players.play(count).await,
        }
    }

    /// A call of one by another, and the reply.
    pub(crate) async fn calls(&self, count: u32) {
        match self {
            Self::Frames { frames, caller, .. } => frames.call(*caller, count).await,
            Self::Ractor { caller, .. } => caller.call(count).await,
            Self::Kameo { caller, .. } => caller.call(count).await,
        }
    }

    /// Messages from one to another.
    pub(crate) async fn one_to_one(&self, count: u32) {
        match self {
            Self::Frames { frames, one, .. } => frames.stream(one, count).await,
            Self::Ractor { one, .. } => one.stream(count).await,
            Self::Kameo { one, .. } => one.stream(count).await,
        }
    }

    /// Messages from [`MANY`] to one, so many in all.
    pub(crate) async fn many_to_one(&self, count: u32) {
        match self {
            Self::Frames { frames, many, .. } => frames.stream(many, count / MANY).await,
            Self::Ractor { many, .. } => many.stream(count / MANY).await,
            Self::Kameo { many, .. } => many.stream(count / MANY).await,
        }
    }
}
