//! How long to wait before the next attempt.

use std::io;
use std::time::Duration;

/// Doubles the time between attempts with every failure in a row, from half a second to a minute. Of each time
/// between half and the whole is taken, at random: many that failed together do not come back together.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    /// The longest time between two attempts.
    pub(super) const LONGEST: Duration = Duration::from_mins(1);

    /// How long to wait after one more failure. `random` decides where between half and the whole time this is.
    pub(super) fn failed(&mut self, random: u16) -> Duration {
        let doubled = Self::FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let half = doubled.min(Self::LONGEST) / 2;
        half + half * u32::from(random) / u32::from(u16::MAX)
    }

    /// The next failure is the first one again.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// A random number for [`Backoff::failed`]. Where there is none, all wait as long.
pub(super) fn random() -> u16 {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_or(u16::MAX, |()| u16::from_be_bytes(bytes))
}

/// A name for a session that nobody else has, and nobody guesses.
pub(super) fn session_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(format!("frame-{}", data_encoding::HEXLOWER.encode(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_minute_and_starts_again() {
        let mut backoff = Backoff::default();
        let millis: Vec<_> = (0..10).map(|_| backoff.failed(u16::MAX).as_millis()).collect();
        assert_eq!(millis, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        backoff.failures = u32::MAX;
        assert_eq!(backoff.failed(u16::MAX).as_secs(), 60);
        backoff.succeeded();
        assert_eq!(backoff.failed(0).as_millis(), 250);
        assert_eq!(backoff.failed(0).as_millis(), 500);
        assert!((500..=1000).contains(&{
            backoff.succeeded();
            backoff.failed(0);
            backoff.failed(random()).as_millis()
        }));
    }

    #[test]
    fn session_ids_are_words_of_their_own() {
        let (first, second) = (session_id().unwrap(), session_id().unwrap());
        assert_ne!(first, second);
        assert!(first.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{first}");
    }
}
