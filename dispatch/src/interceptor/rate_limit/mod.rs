//! How many calls of a function may begin in a time.

mod bucket;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frame_registry::{DeclaredOption, FrameOption, frame_option};
use futures_core::future::BoxFuture;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use self::bucket::{Bucket, NoSlot, Rate};
use super::timeout::{DurationText, parse_duration};
use super::{Interceptor, Next, OutOfRange};
use crate::context::CallContext;
use crate::error::{CallError, ErrorKind};
use crate::payload::Payload;
use crate::pid::FunctionId;
use crate::task::Task;

/// How many calls of the function may begin in a time. In text the calls and the time, such as `"100/s"`, or a map: see
/// [`RateLimit`].
///
/// What a function is registered with all its calls keep, together. What a call says as well, the calls of the function that
/// say the same keep together, and the function's limit beside it: a call can narrow the limit, and not widen it. Every
/// attempt at a call counts.
///
/// A call over the limit waits for its slot, first come, first served; where that is later than its deadline it fails
/// at once, of the kind [`Exhausted`](ErrorKind::Exhausted), and [says](CallError::retry_after) when the next slot is.
/// A call that ends while it waits takes no slot.
#[frame_option(name = "rate_limit", dispatcher)]
pub static RATE_LIMIT: FrameOption<RateLimit>;

/// The value of [`RATE_LIMIT`]: so many calls in a time, of which so many may come at once.
///
/// In text it is the calls and the time, such as `"100/s"` or `"5/500ms"`, or a map:
///
/// ```
/// use frame_dispatch::interceptor::{RATE_LIMIT, RateLimit};
/// use frame_registry::Options;
/// use serde_json::json;
/// use std::time::Duration;
///
/// let options = Options::from_json(&json!({ "rate_limit": "100/s" }))?;
/// assert_eq!(options.get(&RATE_LIMIT), Some(&RateLimit::new(100, Duration::from_secs(1))?));
///
/// let options = Options::from_json(&json!({ "rate_limit": {
///     "calls": 600,
///     "per": "1m",
///     "burst": 20,
///     "max_wait": "250ms",
/// } }))?;
/// let limit = RateLimit::new(600, Duration::from_secs(60))?
///     .with_burst(20)?
///     .with_max_wait(Duration::from_millis(250));
/// assert_eq!(options.get(&RATE_LIMIT), Some(&limit));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    calls: u32,
    per: Duration,
    burst: u32,
    max_wait: Option<Duration>,
}

impl RateLimit {
    /// At most `calls` in the time `per`, evenly, but for a burst of as many at once after a rest.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::NoCalls`] and [`OutOfRange::NoTime`] for zero.
    pub const fn new(calls: u32, per: Duration) -> Result<Self, OutOfRange> {
        if calls == 0 {
            return Err(OutOfRange::NoCalls);
        }
        if per.is_zero() {
            return Err(OutOfRange::NoTime);
        }
        Ok(Self { calls, per, burst: calls, max_wait: None })
    }

    /// Lets `burst` calls come at once after a rest; 1 keeps all of them apart.
    ///
    /// # Errors
    ///
    /// [`OutOfRange::Burst`] for zero.
    pub const fn with_burst(mut self, burst: u32) -> Result<Self, OutOfRange> {
        if burst == 0 {
            return Err(OutOfRange::Burst);
        }
        self.burst = burst;
        Ok(self)
    }

    /// Lets a call wait for its slot no longer than this, also where its deadline allows it; zero is not at all.
    #[must_use]
    pub const fn with_max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }

    /// How many calls.
    pub const fn calls(&self) -> u32 {
        self.calls
    }

    /// In which time.
    pub const fn per(&self) -> Duration {
        self.per
    }

    /// How many at once.
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// How long a call waits for its slot at most.
    pub const fn max_wait(&self) -> Option<Duration> {
        self.max_wait
    }

    fn rate(&self) -> Rate {
        Rate::new(self.calls, self.per, self.burst)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.calls, self.per)
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RateLimitVisitor;

        impl<'de> Visitor<'de> for RateLimitVisitor {
            type Value = RateLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "calls in a time, such as \"100/s\", or a map such as { calls = 100, per = \"1s\" }",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RateLimit, E> {
                parse_rate_limit(text).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateLimit, A::Error> {
                let fields = RateLimitFields::deserialize(MapAccessDeserializer::new(map))?;
                RateLimit::try_from(fields).map_err(A::Error::custom)
            }
        }

        deserializer.deserialize_any(RateLimitVisitor)
    }
}

/// The limit as a map.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimitFields {
    calls: u32,
    per: DurationText,
    burst: Option<u32>,
    max_wait: Option<DurationText>,
}

impl TryFrom<RateLimitFields> for RateLimit {
    type Error = OutOfRange;

    fn try_from(fields: RateLimitFields) -> Result<Self, OutOfRange> {
        let limit = Self::new(fields.calls, fields.per.0)?;
        let limit = limit.with_burst(fields.burst.unwrap_or(limit.burst))?;
        Ok(Self { max_wait: fields.max_wait.map(|text| text.0), ..limit })
    }
}

fn parse_rate_limit(text: &str) -> Result<RateLimit, String> {
    let is_no_rate = || format!(r#"{text:?} is not calls in a time, such as "100/s" or "5/500ms""#);
    let (calls, per) = text.split_once('/').ok_or_else(is_no_rate)?;
    let (calls, per) = (calls.trim(), per.trim());
    let calls = calls.parse().map_err(|_| is_no_rate())?;
    let per = if per.starts_with(|first: char| first.is_ascii_digit()) {
        parse_duration(per)?
    } else if per.chars().all(char::is_alphabetic) {
        // A unit alone is one of it.
        parse_duration(&format!("1{per}")).map_err(|_| is_no_rate())?
    } else {
        return Err(is_no_rate());
    };
    RateLimit::new(calls, per).map_err(|error| error.to_string())
}

/// Keeps [`RATE_LIMIT`].
#[derive(Debug, Default)]
pub(super) struct RateLimits {
    /// What functions are registered with.
    presets: Mutex<Buckets>,
    /// What calls say.
    own: Mutex<Buckets>,
}

/// The buckets of which a call waits, or began not long ago.
#[derive(Debug, Default)]
struct Buckets {
    map: HashMap<(FunctionId, Rate), Arc<Bucket>>,
    /// How many were left when those that are idle were last dropped.
    kept: usize,
}

impl Buckets {
    /// Fewer than these are not worth to look whether they are idle.
    const FEW: usize = 64;
    /// Of calls, which can make up any number of limits, no more than these are kept at a time.
    const MOST: usize = 10_000;

    /// The bucket of a function's calls; none if there would be more than `most`.
    fn get(&mut self, function: &FunctionId, rate: Rate, most: usize) -> Option<Arc<Bucket>> {
        let key = (function.clone(), rate);
        if let Some(bucket) = self.map.get(&key) {
            return Some(Arc::clone(bucket));
        }
        if self.map.len() >= Self::FEW.max(2 * self.kept).min(most) {
            // Nobody gets hold of one meanwhile, because that takes the lock.
            self.map.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_idle());
            self.kept = self.map.len();
        }
        if self.map.len() >= most {
            return None;
        }
        let bucket = Arc::new(Bucket::new(rate));
        self.map.insert(key, Arc::clone(&bucket));
        Some(bucket)
    }
}

/// The bucket of a limit.
type Kept = (Arc<Bucket>, RateLimit);

impl RateLimits {
    /// The buckets that a call has to have a slot of: the one of what it says itself, and that of the function.
    fn buckets(
        &self,
        function: &FunctionId,
        preset: Option<RateLimit>,
        own: Option<RateLimit>,
    ) -> Result<[Option<Kept>; 2], CallError> {
        let own = own.filter(|own| preset.is_none_or(|preset| preset.rate() != own.rate()));
        let kept = |buckets: &Mutex<Buckets>, limit: RateLimit, most| {
            let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
            let bucket = buckets.get(function, limit.rate(), most);
            bucket.map(|bucket| (bucket, limit)).ok_or_else(too_many)
        };
        Ok([
            own.map(|limit| kept(&self.own, limit, Buckets::MOST)).transpose()?,
            preset.map(|limit| kept(&self.presets, limit, usize::MAX)).transpose()?,
        ])
    }

    /// Waits until a call may begin.
    async fn admit(
        &self,
        function: &FunctionId,
        preset: Option<RateLimit>,
        own: Option<RateLimit>,
        ctx: &CallContext,
    ) -> Result<(), CallError> {
        let max_wait = [own, preset].into_iter().flatten().filter_map(|limit| limit.max_wait()).min();
        let buckets = self.buckets(function, preset, own)?;
        if Bucket::try_take(buckets.each_ref().map(|kept| kept.as_ref().map(|(bucket, _)| &**bucket))) {
            return Ok(());
        }
        let ctx = max_wait.map_or_else(|| ctx.clone(), |max_wait| ctx.with_timeout(max_wait));
        let mut reservations = Vec::with_capacity(2);
        // The call's own first: whoever waits for the function's slot holds up all that come behind.
        for (bucket, limit) in buckets.iter().flatten() {
            let reservation = bucket.reserve(&ctx).await;
            reservations.push(reservation.map_err(|none| no_slot(none, limit))?);
        }
        // Only now, when both have one, so that whoever ends in between loses none.
        for reservation in reservations {
            reservation.take();
        }
        Ok(())
    }
}

fn too_many() -> CallError {
    let message = format!(
        "calls say more than {} different rate limits at a time, so this one cannot be kept",
        Buckets::MOST
    );
    CallError::new(ErrorKind::Exhausted, message)
}

fn no_slot(none: NoSlot, limit: &RateLimit) -> CallError {
    match none {
        NoSlot::Ended(ended) => ended,
        NoSlot::Next(wait) => {
            let message = format!("over its rate limit of {limit}; the next slot is in {wait:?}");
            CallError::new(ErrorKind::Exhausted, message).with_retry_after(wait)
        }
    }
}

impl Interceptor for RateLimits {
    fn name(&self) -> &'static str {
        "rate_limit"
    }

    fn order(&self) -> i32 {
        300
    }

    fn options(&self) -> &[&'static DeclaredOption] {
        const { &[RATE_LIMIT.declared()] }
    }

    fn intercept<'a>(
        &'a self,
        ctx: &'a CallContext,
        task: Task,
        next: Next<'a>,
    ) -> BoxFuture<'a, Result<Payload, CallError>> {
        Box::pin(async move {
            let preset = next.preset().get(&RATE_LIMIT).copied();
            let own = task.options().get(&RATE_LIMIT).copied();
            self.admit(next.function(), preset, own, ctx).await?;
            next.call(ctx, task).await
        })
    }
}

#[cfg(test)]
mod tests {
    use frame_registry::App;
    use tokio::time::advance;

    use super::*;
    use crate::functions::Functions;

    fn function(number: usize) -> FunctionId {
        format!("app:f{number}").parse().unwrap()
    }

    fn root() -> CallContext {
        Functions::new(App::builder().build()).root()
    }

    #[tokio::test(start_paused = true)]
    async fn functions_that_come_and_go_leave_nothing_behind() {
        let (mut buckets, ctx) = (Buckets::default(), root());
        let rate = Rate::new(1, Duration::from_secs(1), 1);
        let held = buckets.get(&function(0), rate, usize::MAX).unwrap();
        for number in 1..10_000 {
            let bucket = buckets.get(&function(number), rate, usize::MAX).unwrap();
            bucket.reserve(&ctx).await.unwrap().take();
            advance(Duration::from_millis(100)).await;
            assert!(buckets.map.len() <= Buckets::FEW, "{number}: {}", buckets.map.len());
        }
        let same = buckets.get(&function(0), rate, usize::MAX).unwrap();
        assert!(Arc::ptr_eq(&held, &same), "one that is in use stays");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_cannot_make_up_limits_without_end() {
        let (limits, ctx) = (RateLimits::default(), root());
        let limit = |number: usize| {
            let per = Duration::from_hours(1) + Duration::from_secs(number as u64);
            Some(RateLimit::new(1, per).unwrap())
        };
        for number in 0..Buckets::MOST {
            limits.admit(&function(0), None, limit(number), &ctx).await.unwrap();
        }
        let error = limits.admit(&function(0), None, limit(Buckets::MOST), &ctx).await.unwrap_err();
        assert_eq!(
            error.message(),
            "calls say more than 10000 different rate limits at a time, so this one cannot be kept"
        );
        limits.admit(&function(0), limit(Buckets::MOST), None, &ctx).await.unwrap();
        advance(Duration::from_hours(2)).await;
        limits.admit(&function(0), None, limit(Buckets::MOST), &ctx).await.unwrap();
    }
}
