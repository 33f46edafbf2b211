//! How many files and connections this process may have open.

use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What Apple's systems allow at most, whatever the hard limit says: `OPEN_MAX`.
const OPEN_MAX: u64 = 10_240;

/// Raises the soft limit of descriptors to the hard one. The soft limit is low for programs that use `select`, which this one
/// does not. The limits of connections are derived from it, so that comes before networks are made.
///
/// Where that fails the limit stays as it is, and so do those that are derived from it.
pub(crate) fn raise() {
    let before = getrlimit(Resource::Nofile);
    let raised = raised(before).map_or(Ok(()), |raised| set(before, raised));
    let now = getrlimit(Resource::Nofile);
    match raised {
        Ok(()) => tracing::debug!(before = %shown(before), limit = %shown(now), "open files"),
        Err(error) => tracing::warn!(limit = %shown(now), %error, "the limit of open files was not raised"),
    }
}

/// The soft limit, to be read.
fn shown(limit: Rlimit) -> String {
    limit.current.map_or_else(|| "unlimited".to_owned(), |files| files.to_string())
}

/// What the soft limit is raised to, if it is below the hard one.
fn raised(limit: Rlimit) -> Option<u64> {
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let possible = if cfg!(target_vendor = "apple") { hard.min(OPEN_MAX) } else { hard };
    limit.current.is_some_and(|current| current < possible).then_some(possible)
}

fn set(before: Rlimit, current: u64) -> io::Result<()> {
    // `None` is how no limit is written.
    let current = (current != u64::MAX).then_some(current);
    setrlimit(Resource::Nofile, Rlimit { current, maximum: before.maximum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = |current, maximum| Rlimit { current, maximum };
        assert_eq!(raised(limit(Some(256), Some(4096))), Some(4096));
        assert_eq!(raised(limit(Some(4096), Some(4096))), None);
        assert_eq!(raised(limit(None, None)), None);
        assert_eq!(
            (shown(limit(Some(256), None)), shown(limit(None, None))),
            ("256".into(), "unlimited".into())
        );
        if !cfg!(target_vendor = "apple") {
            assert_eq!(raised(limit(Some(256), None)), Some(u64::MAX));
        }
    }
}
