//! The name that was probably meant.

/// The longest name that something is suggested for, in bytes.
const LONGEST: usize = 100;

/// The candidate nearest to `name`, if one is near enough to be a slip of the fingers.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody slips over a name that long, and comparing takes as long as it is.
    if name.len() > LONGEST {
        return None;
    }
    let length = name.chars().count();
    let allowed = (length / 3).max(1);
    // One character is up to three where case is ignored. Most candidates need not be compared.
    let is_far = |candidate: &str| {
        candidate.len() > 3 * 4 * (length + allowed) || 3 * candidate.chars().count() + allowed < length
    };
    candidates
        .into_iter()
        .filter(|candidate| !is_far(candidate))
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The optimal string alignment distance, case ignored: how many characters to insert, delete, replace or swap
/// with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let fold = |text: &str| text.chars().flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (left, right) = (fold(left), fold(right));
    let mut before = vec![0; right.len() + 1];
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, l) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, r) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(l != r);
            let mut cost = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *l == right[column - 1] && left[row - 1] == *r {
                cost = cost.min(before[column - 1] + 1);
            }
            current.push(cost);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits_and_swaps() {
        assert_eq!(distance("network", "network"), 0);
        assert_eq!(distance("netwrok", "network"), 1);
        assert_eq!(distance("NETWORK", "network"), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn suggests_the_nearest_and_nothing_far() {
        let names = ["network", "timeout", "retry"];
        assert_eq!(nearest("netwrok", names), Some("network"));
        assert_eq!(nearest("time_out", names), Some("timeout"));
        assert_eq!(nearest("color", names), None);
        assert_eq!(nearest("", names), None);
    }
}
