//! Units, and the limiter that shares permits among them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use frame_registry::{App, Frame, Key};

/// Returns the unit of a frame. The embedder sets it on the app; the frames of an app without it are all of one unit.
///
/// ```
/// use frame_net::{UNIT_OF, Unit};
/// use frame_registry::{App, Key};
///
/// static TASK: Key<String> = Key::new("limits_example.task");
///
/// let mut app = App::builder();
/// app.set(&UNIT_OF, |frame| frame.get(&TASK).map(|task| Unit::new("task", task.as_str())))?;
/// # Ok::<(), frame_registry::AppError>(())
/// ```
pub static UNIT_OF: Key<fn(&Frame) -> Option<Unit>> = Key::new("net.unit_of");

/// A group of frames whose connections and lookups are limited together, such as all calls of a function.
///
/// The default is the unit of everything that has no name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Unit(Option<(&'static str, Arc<str>)>);

impl Unit {
    /// Creates the unit of this kind and name.
    pub fn new(kind: &'static str, name: impl Into<Arc<str>>) -> Self {
        Self(Some((kind, name.into())))
    }

    /// Returns its kind, such as `function`. Code without a unit has none.
    pub fn kind(&self) -> Option<&'static str> {
        self.0.as_ref().map(|(kind, _)| *kind)
    }

    /// Returns its name. Code without a unit has none.
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|(_, name)| &**name)
    }

    pub(crate) const fn is_named(&self) -> bool {
        self.0.is_some()
    }

    /// The unit of `frame`, as the app names it.
    pub(crate) fn of(frame: &Frame, app: &App) -> Self {
        app.get(&UNIT_OF).and_then(|unit_of| unit_of(frame)).unwrap_or_default()
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((kind, name)) => write!(f, "{kind} `{name}`"),
            None => f.write_str("code without a unit"),
        }
    }
}

/// Shares `total` permits among units. A unit gets one more only while it has fewer than are free (the dynamic threshold of
/// Choudhury and Hahne), so that another unit finds room however much the others take. If there are many units, few permits
/// are free: the last ones are for units that have few, and the fewer are left, the fewer a unit may have.
pub(crate) struct Limiter {
    resource: LimitedResource,
    total: usize,
    per_unit: usize,
    /// A unit that has fewer gets one of the last permits: the fewer it has, the closer to the end.
    few: usize,
    table: Mutex<LimiterTable>,
}

/// The last permits are one part in so many.
const LAST: usize = 16;

#[derive(Default)]
struct LimiterTable {
    held: usize,
    /// The units that hold permits, and how many.
    units: HashMap<Unit, usize>,
}

impl Limiter {
    pub(crate) fn new(resource: LimitedResource, total: usize, per_unit: usize) -> Self {
        let few = match resource {
            LimitedResource::Connections => 4,
            LimitedResource::Lookups => 1,
        };
        Self { resource, total, per_unit, few, table: Mutex::default() }
    }

    /// Returns how many of `free` permits a unit may have that holds `held`. The rest is kept for units that have fewer: if
    /// many units with few permits took the last ones, nothing would be left for a unit that has none.
    fn threshold(&self, free: usize, held: usize) -> usize {
        let kept = self.total / LAST * held.min(self.few) / self.few;
        free.saturating_sub(kept)
    }

    #[cfg(any(feature = "http", test))]
    pub(crate) const fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn acquire(self: &Arc<Self>, unit: &Unit) -> Result<Permit, LimitReached> {
        let mut table = self.table();
        let free = self.total.saturating_sub(table.held);
        let entry = table.units.entry(unit.clone());
        let held = match &entry {
            Entry::Occupied(held) => *held.get(),
            Entry::Vacant(_) => 0,
        };
        let refused = |scope, limit| LimitReached { resource: self.resource, scope, limit, held };
        if held >= self.per_unit {
            return Err(refused(LimitScope::Unit, self.per_unit));
        }
        if free == 0 {
            return Err(refused(LimitScope::All, self.total));
        }
        if held >= self.threshold(free, held) {
            return Err(refused(LimitScope::Share, self.total));
        }
        *entry.or_insert(0) += 1;
        table.held += 1;
        drop(table);
        let held =
            PermitState { limiter: Arc::clone(self), unit: unit.clone(), is_released: OnceLock::new() };
        Ok(Permit(Arc::new(held)))
    }

    /// Returns how many permits others have to return before `unit` gets one more. Returns nothing if that does not help.
    pub(crate) fn missing(&self, unit: &Unit) -> Option<usize> {
        let table = self.table();
        let held = table.units.get(unit).copied().unwrap_or(0);
        let free = self.total.saturating_sub(table.held);
        (held < self.per_unit).then(|| (held + 1).saturating_sub(self.threshold(free, held)))
    }

    fn release(&self, unit: &Unit) {
        let mut table = self.table();
        table.held -= 1;
        if let Some(held) = table.units.get_mut(unit) {
            *held -= 1;
            if *held == 0 {
                table.units.remove(unit);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, LimiterTable> {
        // Nothing in here panics in the middle of a change.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit, held until the last clone is dropped or it is [released](Self::release).
#[derive(Clone)]
pub(crate) struct Permit(
    #[cfg_attr(
        not(feature = "http"),
        expect(dead_code, reason = "held until it is dropped; only the HTTP client gives one back earlier")
    )]
    Arc<PermitState>,
);

struct PermitState {
    limiter: Arc<Limiter>,
    unit: Unit,
    is_released: OnceLock<()>,
}

impl Permit {
    /// Returns the permit before all clones are dropped: the connection is being closed.
    #[cfg(feature = "http")]
    pub(crate) fn release(&self) {
        self.0.release();
    }
}

impl PermitState {
    fn release(&self) {
        if self.is_released.set(()).is_ok() {
            self.limiter.release(&self.unit);
        }
    }
}

impl Drop for PermitState {
    fn drop(&mut self) {
        self.release();
    }
}

/// A resource that units share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitedResource {
    /// Connections, listeners and sockets for datagrams.
    Connections,
    /// Names that are being looked up.
    Lookups,
}

impl fmt::Display for LimitedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connections => "connections",
            Self::Lookups => "lookups",
        })
    }
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitScope {
    /// The limit of one unit.
    Unit,
    /// The share of one unit, which depends on how much others hold.
    Share,
    /// The limit of all units together.
    All,
}

impl fmt::Display for LimitScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unit => "unit",
            Self::Share => "share",
            Self::All => "all",
        })
    }
}

/// A limit was reached. The same succeeds once something is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub struct LimitReached {
    /// The resource.
    pub resource: LimitedResource,
    /// Which limit it is.
    pub scope: LimitScope,
    /// The limit. For [`LimitScope::Share`] it is that of all units.
    pub limit: usize,
    /// How many the unit holds.
    pub held: usize,
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, scope, limit, held } = self;
        let (one, many) = match resource {
            LimitedResource::Connections => ("connection", "connections"),
            LimitedResource::Lookups => ("lookup", "lookups"),
        };
        let what = if *held == 1 { one } else { many };
        match scope {
            LimitScope::Unit => write!(f, "this unit has {held} {what}, which is the limit for one unit"),
            LimitScope::Share => {
                write!(f, "this unit has {held} {what}, which is its share of {limit} at present")
            }
            LimitScope::All if *limit == 1 => write!(f, "the only {one} of all units is in use"),
            LimitScope::All => write!(f, "all {limit} {many} are in use"),
        }?;
        f.write_str("; close some, or try again later")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(number: usize) -> Unit {
        Unit::new("unit", number.to_string())
    }

    fn limiter(total: usize) -> Arc<Limiter> {
        Arc::new(Limiter::new(LimitedResource::Connections, total, usize::MAX))
    }

    /// Takes all that the unit gets.
    fn take_all(limiter: &Arc<Limiter>, unit: &Unit) -> Vec<Permit> {
        std::iter::from_fn(|| limiter.acquire(unit).ok()).collect()
    }

    /// So many units that take what they get. Those that came first have more, but get no more than others once they have
    /// given it back.
    fn greedy(limiter: &Arc<Limiter>, units: usize) -> Vec<Vec<Permit>> {
        let mut taken: Vec<_> = (0..units).map(|number| take_all(limiter, &unit(number))).collect();
        for _ in 0..limiter.total() {
            for (number, taken) in taken.iter_mut().enumerate() {
                taken.pop();
                taken.extend(take_all(limiter, &unit(number)));
            }
        }
        taken
    }

    #[test]
    fn greedy_units_leave_one_share_more_than_there_are_of_them() {
        for units in 1..=20 {
            let limiter = limiter(1000);
            let taken = greedy(&limiter, units);
            let share = 1000 / (units + 1);
            let free = 1000 - taken.iter().map(Vec::len).sum::<usize>();
            assert!(
                (share..=share + 1000 / LAST + units).contains(&free),
                "{units} units leave {free} of 1000"
            );
            let (least, most) = (taken.iter().map(Vec::len).min(), taken.iter().map(Vec::len).max());
            assert!(most.unwrap() - least.unwrap() <= 1, "from {least:?} to {most:?}");
            assert!(take_all(&limiter, &unit(99)).len() >= share * 2 / 5, "one more finds room");
        }
    }

    #[test]
    fn many_greedy_units_leave_the_last_to_those_that_have_few() {
        let limiter = limiter(1600);
        let _taken = greedy(&limiter, 250);
        let mut newcomers = Vec::new();
        for number in 1000..1006 {
            let taken: Vec<_> = (0..4).filter_map(|_| limiter.acquire(&unit(number)).ok()).collect();
            assert_eq!(taken.len(), 4, "{number}");
            newcomers.push(taken);
        }
    }

    #[test]
    fn more_units_than_there_is_room_for_leave_some_to_those_that_have_none() {
        let limiter = limiter(1600);
        // They come one after the other, so the first ones have much, and 25 others could take the last by four.
        let _taken: Vec<_> = (0..36).map(|number| take_all(&limiter, &unit(number))).collect();
        let newcomers: Vec<_> = (1000..1020).map(|number| limiter.acquire(&unit(number))).collect();
        assert!(newcomers.iter().all(Result::is_ok));
    }

    #[test]
    fn a_permit_is_given_back_once() {
        let limiter = limiter(4);
        let (one, other) = (limiter.acquire(&unit(1)).unwrap(), limiter.acquire(&unit(1)).unwrap());
        let clone = one.clone();
        clone.0.release();
        drop((one, clone));
        assert_eq!(limiter.table().held, 1);
        drop(other);
        assert_eq!(limiter.table().held, 0);
        assert!(limiter.table().units.is_empty(), "units that hold nothing take no memory");
    }

    #[test]
    fn an_error_says_which_limit_it_is() {
        let fixed = Arc::new(Limiter::new(LimitedResource::Lookups, 10, 2));
        let _two = take_all(&fixed, &unit(1));
        assert_eq!(
            fixed.acquire(&unit(1)).err().unwrap().to_string(),
            "this unit has 2 lookups, which is the limit for one unit; close some, or try again later"
        );
        let limiter = limiter(3);
        let _first = take_all(&limiter, &unit(1));
        assert_eq!(limiter.acquire(&unit(1)).err().unwrap().scope, LimitScope::Share);
        let _second = take_all(&limiter, &unit(2));
        assert_eq!(limiter.acquire(&unit(3)).err().unwrap().scope, LimitScope::All);
    }

    proptest! {
        /// Beside a model that is one list of who holds what.
        #[test]
        fn as_the_rule_says(
            total in 1usize..80,
            per_unit in 1usize..60,
            steps in proptest::collection::vec((0usize..6, 0..4u8, any::<prop::sample::Index>()), 0..400),
        ) {
            let limiter = Arc::new(Limiter::new(LimitedResource::Connections, total, per_unit));
            let mut held: Vec<(usize, Permit)> = Vec::new();
            for (number, takes, index) in steps {
                if takes > 0 {
                    let own = held.iter().filter(|(holder, _)| *holder == number).count();
                    let free = total - held.len();
                    let missing = limiter.missing(&unit(number));
                    let acquired = limiter.acquire(&unit(number));
                    let left = free.saturating_sub(total / 16 * own.min(4) / 4);
                    prop_assert_eq!(acquired.is_ok(), own < left && own < per_unit);
                    prop_assert_eq!(missing == Some(0), acquired.is_ok());
                    if own == 0 && free > 0 {
                        prop_assert!(acquired.is_ok(), "who has nothing finds room");
                    }
                    if let Ok(permit) = acquired {
                        held.push((number, permit));
                    }
                } else if !held.is_empty() {
                    held.swap_remove(index.index(held.len()));
                }
                prop_assert_eq!(limiter.table().held, held.len());
            }
        }
    }

    #[test]
    fn an_error_counts_in_words() {
        let said = |scope, limit, held| {
            LimitReached { resource: LimitedResource::Connections, scope, limit, held }.to_string()
        };
        let then = "; close some, or try again later";
        assert_eq!(said(LimitScope::All, 100, 0), format!("all 100 connections are in use{then}"));
        assert_eq!(said(LimitScope::All, 1, 0), format!("the only connection of all units is in use{then}"));
        assert_eq!(
            said(LimitScope::Unit, 1, 1),
            format!("this unit has 1 connection, which is the limit for one unit{then}")
        );
    }
}
