use proptest::prelude::*;

use super::*;

fn unit(number: usize) -> Unit {
    Unit::new("unit", number.to_string())
}

fn limiter(total: usize) -> Arc<Limiter> {
    Arc::new(Limiter::new(Limited::Connections, total, usize::MAX))
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
        assert!((share..=share + 1000 / LAST + units).contains(&free), "{units} units leave {free} of 1000");
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
    let fixed = Arc::new(Limiter::new(Limited::Lookups, 10, 2));
    let _two = take_all(&fixed, &unit(1));
    assert_eq!(
        fixed.acquire(&unit(1)).err().unwrap().to_string(),
        "this unit has 2 lookups, which is the limit for one unit; close some, or try again later"
    );
    let limiter = limiter(3);
    let _first = take_all(&limiter, &unit(1));
    assert_eq!(limiter.acquire(&unit(1)).err().unwrap().whose, Whose::Share);
    let _second = take_all(&limiter, &unit(2));
    assert_eq!(limiter.acquire(&unit(3)).err().unwrap().whose, Whose::All);
}

proptest! {
    /// Beside a model that is one list of who holds what.
    #[test]
    fn as_the_rule_says(
        total in 1usize..80,
        per_unit in 1usize..60,
        steps in proptest::collection::vec((0usize..6, 0..4u8, any::<prop::sample::Index>()), 0..400),
    ) {
        let limiter = Arc::new(Limiter::new(Limited::Connections, total, per_unit));
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
    let said =
        |whose, limit, held| LimitReached { what: Limited::Connections, whose, limit, held }.to_string();
    let then = "; close some, or try again later";
    assert_eq!(said(Whose::All, 100, 0), format!("all 100 connections are in use{then}"));
    assert_eq!(said(Whose::All, 1, 0), format!("the only connection of all units is in use{then}"));
    assert_eq!(
        said(Whose::Unit, 1, 1),
        format!("this unit has 1 connection, which is the limit for one unit{then}")
    );
}
