//! The way out for a frame.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use frame_registry::{App, Frame};

use crate::audit::{AttemptKind, Destination, Peers, Recording, RequestDetails, Subject, Unrecorded};
use crate::egress::{Egress, EgressRefusal, Verdict};
use crate::endpoint::{Endpoint, Host, HostName, LocalEndpoint};
use crate::error::{Cause, ChosenBy, DriverError, DriverStep, Missing, NetworkError};
use crate::isolation::{ISOLATION_KEY, IsolationKey, IsolationKeyError};
use crate::limits::{
    Account, Counted, CountedDatagrams, CountedListener, LimitReached, Limits, Permit, Unit, account,
};
use crate::network::{BoxDatagrams, BoxListener, BoxStream, Route};
use crate::overlay::NETWORK_KEY;
use crate::registry::{NETWORKS, NetworkRegistry, Registered, default_network, require};
#[cfg(feature = "http")]
use crate::secrets::{Granted, SecretError, SecretId, StoredSecret};

/// The dialer of `frame`: what the unit of that frame makes its connections with, and the only thing that makes
/// connections for it.
///
/// A frame that carries no overlay network is on the app's default, and on clearnet where there is none. A
/// resolved frame carries the default already; one that somebody built by hand must not get around it.
///
/// ```standalone_crate
/// use frame_net::{NetConfig, Route, dialer};
/// use frame_registry::{App, FrameBuilder, FrameResolvers};
///
/// let mut app = App::builder();
/// app.set_resolvers(FrameResolvers::linked())?;
/// frame_net::boot(&mut app, NetConfig::default())?;
///
/// let dialer = dialer(&FrameBuilder::new().seal(), &app.build())?;
/// assert_eq!(dialer.route(), &Route::Clearnet);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`NetworkError::NotFound`] if the frame's network is not registered any more, and [`NetworkError::NotBooted`]
/// if the app has no networks at all, not even clearnet.
pub fn dialer(frame: &Frame, app: &App) -> Result<Dialer, NetworkError> {
    let carried = frame.get(&NETWORK_KEY).map(|id| (id, ChosenBy::Frame));
    let chosen = carried.or_else(|| default_network(app).map(|id| (id, ChosenBy::AppDefault)));
    let (route, chosen_by) = match chosen {
        Some((id, chosen_by)) => {
            require(app, id, chosen_by)?;
            (Route::Network(id.clone()), chosen_by)
        }
        None => (Route::Clearnet, ChosenBy::AppDefault),
    };
    let networks = app.get(&NETWORKS).ok_or(NetworkError::NotBooted)?.clone();
    let isolation = frame.get(&ISOLATION_KEY).cloned();
    let (egress, unit, subject) = (Egress::of(frame), Unit::of(frame, app), Subject::of(frame, app));
    #[cfg(feature = "http")]
    let secrets = Granted::of(frame, app);
    Ok(Dialer {
        networks,
        route,
        chosen_by,
        isolation,
        egress,
        unit,
        subject,
        #[cfg(feature = "http")]
        secrets,
    })
}

/// Makes the connections of a frame; from [`dialer()`].
///
/// It names a network rather than holding it: each connection goes through the network that is registered at
/// that moment, and through none if it was unregistered.
///
/// Connections, listeners, sockets for datagrams and lookups count towards the [limits](crate::LimitsConfig) of the
/// frame's [unit](crate::UNIT_OF) and of all. Anything beyond a limit is refused at once, with [`Cause::Limit`].
///
/// If the app has an [audit log](crate::audit), each of these is recorded there before anything of it leaves, and is refused
/// with [`Cause::Unrecorded`] if it cannot be.
#[derive(Debug, Clone)]
pub struct Dialer {
    pub(crate) networks: NetworkRegistry,
    route: Route,
    chosen_by: ChosenBy,
    isolation: Option<IsolationKey>,
    egress: Option<Egress>,
    unit: Unit,
    pub(crate) subject: Option<Arc<Subject>>,
    #[cfg(feature = "http")]
    secrets: Option<Granted>,
}

impl Dialer {
    /// What the connections go through.
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// The key whose connections may be seen to belong together.
    pub const fn isolation(&self) -> Option<&IsolationKey> {
        self.isolation.as_ref()
    }

    /// The destinations that the frame may reach. Without it, all.
    pub const fn egress(&self) -> Option<&Egress> {
        self.egress.as_ref()
    }

    /// The unit that connections are counted for.
    pub const fn unit(&self) -> &Unit {
        &self.unit
    }

    /// The same dialer, with another isolation key than the frame's. A network that cannot keep connections apart
    /// refuses to connect then, and everything else is refused with a key, because it is the same for all.
    #[must_use]
    pub fn isolated(self, key: IsolationKey) -> Self {
        Self { isolation: Some(key), ..self }
    }

    /// The same dialer, with a key [within](IsolationKey::within) the frame's: what code that is not trusted may ask for.
    ///
    /// # Errors
    ///
    /// [`IsolationKeyError::Length`] if both keys together are too long.
    pub fn isolated_within(self, key: &IsolationKey) -> Result<Self, IsolationKeyError> {
        let isolation = Some(key.within(self.isolation())?);
        Ok(Self { isolation, ..self })
    }

    /// Returns whether the frame may reach `to`, as [`connect`](Self::connect) finds it. Does not allocate.
    pub fn verdict(&self, to: &Endpoint) -> Verdict<'_> {
        self.egress.as_ref().map_or(Verdict::Unrestricted, |egress| egress.check(to))
    }

    /// Connects to `to`. Through an overlay network a name is not looked up here.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that was being made.
    ///
    /// # Errors
    ///
    /// [`NetworkError::NotFound`] if the network was unregistered, else [`NetworkError::Connect`]; with [`Cause::Egress`] if
    /// the frame may not reach `to`.
    pub async fn connect(&self, to: &Endpoint) -> Result<BoxStream, NetworkError> {
        let failed = |source| self.not_connected(to, source);
        let (network, permit) = self.before(AttemptKind::Connect, to, || {
            let network = self.network()?;
            self.check(to)?;
            let permit = self.permit().map_err(|error| failed(limited(DriverStep::Connect, to, error)))?;
            Ok((network, permit))
        })?;
        let begun = self.record(AttemptKind::Connect, to).await;
        let recording = begun.map_err(|error| failed(unrecorded(DriverStep::Connect, to, error)))?;
        let connected = self.connect_with(permit, &network, to, &recording).await;
        let connected = connected.inspect_err(|error| recording.failed(error))?;
        recording.succeeded();
        Ok(Box::new(connected.recorded_as(recording)))
    }

    /// Accepts connections at `at`, an address on the network. What goes back over them is not [`egress`](crate::egress).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future frees what was taken.
    ///
    /// # Errors
    ///
    /// [`NetworkError::NotFound`] if the network was unregistered, else [`NetworkError::Listen`]: through many
    /// networks nobody can be reached, and then nothing listens.
    pub async fn listen(&self, at: &LocalEndpoint) -> Result<BoxListener, NetworkError> {
        let failed = |source| NetworkError::Listen { at: *at, route: self.route.clone(), source };
        let (network, permit) = self.before(AttemptKind::Listen, at, || {
            let network = self.network()?;
            network.check_shared(DriverStep::Listen, at, self.isolation()).map_err(failed)?;
            let permit = self.permit().map_err(|error| failed(limited(DriverStep::Listen, at, error)))?;
            Ok((network, permit))
        })?;
        let begun = self.record(AttemptKind::Listen, at).await;
        let recording = begun.map_err(|error| failed(unrecorded(DriverStep::Listen, at, error)))?;
        let listens = async {
            let listener = account(self.account(&recording), network.listen(at)).await?;
            let counted = CountedListener::new(listener, self, recording.clone(), permit);
            counted.map_err(|panicked| panicked.at(DriverStep::Listen, at))
        };
        let listener = listens.await.map_err(failed).inspect_err(|error| recording.failed(error))?;
        recording.succeeded();
        Ok(Box::new(listener))
    }

    /// Sends and receives datagrams from `at`, an address on the network.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future frees what was taken.
    ///
    /// # Errors
    ///
    /// [`NetworkError::NotFound`] if the network was unregistered, else [`NetworkError::Bind`]: many networks carry
    /// no datagrams, and then none is sent. To send to a peer that the frame may not reach fails with [`Cause::Egress`].
    pub async fn bind_datagram(&self, at: &LocalEndpoint) -> Result<BoxDatagrams, NetworkError> {
        let failed = |source| NetworkError::Bind { at: *at, route: self.route.clone(), source };
        let (network, permit) = self.before(AttemptKind::Bind, at, || {
            let network = self.network()?;
            network.check_shared(DriverStep::Bind, at, self.isolation()).map_err(failed)?;
            let permit = self.permit().map_err(|error| failed(limited(DriverStep::Bind, at, error)))?;
            Ok((network, permit))
        })?;
        let begun = self.record(AttemptKind::Bind, at).await;
        let recording = begun.map_err(|error| failed(unrecorded(DriverStep::Bind, at, error)))?;
        let bound = async {
            let datagrams = account(self.account(&recording), network.bind_datagram(at)).await?;
            let (account, peers) = (self.account(&Recording::default()), Peers::new(self, recording.clone()));
            let counted = CountedDatagrams::new(datagrams, account, self.egress.clone(), peers, permit);
            counted.map_err(|panicked| panicked.at(DriverStep::Bind, at))
        };
        let datagrams = bound.await.map_err(failed).inspect_err(|error| recording.failed(error))?;
        recording.succeeded();
        Ok(Box::new(datagrams))
    }

    /// The addresses of `name`, as the network sees them. To connect to a name this is not needed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the answer.
    ///
    /// # Errors
    ///
    /// [`NetworkError::NotFound`] if the network was unregistered, else [`NetworkError::Lookup`]: many networks
    /// cannot look names up, and then no server is asked. With [`Cause::Egress`] if the frame may not reach any port of `name`.
    pub async fn lookup(&self, name: &HostName) -> Result<Vec<IpAddr>, NetworkError> {
        let failed = |source| NetworkError::Lookup { name: name.clone(), route: self.route.clone(), source };
        let network = self.before(AttemptKind::Lookup, name, || {
            let network = self.network()?;
            self.check_lookup(name).map_err(failed)?;
            network.check_shared(DriverStep::Lookup, name, self.isolation()).map_err(failed)?;
            Ok(network)
        })?;
        let begun = self.record(AttemptKind::Lookup, name).await;
        let recording = begun.map_err(|error| failed(unrecorded(DriverStep::Lookup, name, error)))?;
        let found = account(self.account(&recording), network.lookup(name)).await;
        let found = found.map_err(failed).inspect_err(|error| recording.failed(error))?;
        recording.succeeded();
        Ok(found)
    }

    /// Connects to `to` through what [`network`](Self::network) gave, be it registered still or not, for what `recording`
    /// records.
    #[cfg(feature = "http")]
    pub(crate) async fn connect_through(
        &self,
        registered: &Registered,
        to: &Endpoint,
        recording: &Recording,
    ) -> Result<Counted, NetworkError> {
        self.check(to)?;
        let permit = self.permit();
        let permit =
            permit.map_err(|error| self.not_connected(to, limited(DriverStep::Connect, to, error)))?;
        self.connect_with(permit, registered, to, recording).await
    }

    async fn connect_with(
        &self,
        permit: Permit,
        registered: &Registered,
        to: &Endpoint,
        recording: &Recording,
    ) -> Result<Counted, NetworkError> {
        let dialled = account(self.account(recording), registered.connect(to, self.isolation())).await;
        let stream = dialled.map_err(|source| self.not_connected(to, source))?;
        Ok(Counted::new(stream, permit))
    }

    /// Why there is no connection to `to`.
    pub(crate) fn not_connected(&self, to: &Endpoint, source: DriverError) -> NetworkError {
        NetworkError::Connect { to: to.clone(), route: self.route.clone(), source }
    }

    /// The rule that lets `to` be reached, for the audit log.
    pub(crate) fn rule_for(&self, to: &Destination) -> Option<Arc<str>> {
        let egress = self.egress.as_ref()?;
        let verdict = match to {
            Destination::Endpoint(to) => egress.check(to),
            Destination::Name(name) => egress.check_name(name, None),
            // What comes in is not egress.
            Destination::Local(_) | Destination::Peer(_) => return None,
        };
        match verdict {
            Verdict::Allowed(rule) => Some(format!("egress: {rule}").into()),
            Verdict::Unrestricted | Verdict::Refused(_) => None,
        }
    }

    /// Does what comes before anything of an attempt leaves. A refusal is recorded.
    fn before<T>(
        &self,
        kind: AttemptKind,
        destination: impl Into<Destination>,
        check: impl FnOnce() -> Result<T, NetworkError>,
    ) -> Result<T, NetworkError> {
        check().inspect_err(|error| self.record_refusal(kind, destination, error, RequestDetails::default))
    }

    /// Returns an error if the frame may not reach `to`. Callers with a connection to `to` ask before they use it.
    pub(crate) fn check(&self, to: &Endpoint) -> Result<(), NetworkError> {
        let Verdict::Refused(list) = self.verdict(to) else { return Ok(()) };
        let refusal = EgressRefusal::new(to.host().clone(), Some(to.port()), list);
        let source = refused(DriverStep::Connect, to, refusal);
        Err(NetworkError::Connect { to: to.clone(), route: self.route.clone(), source })
    }

    /// Returns an error if the frame may not reach any port of `name`.
    fn check_lookup(&self, name: &HostName) -> Result<(), DriverError> {
        let Some(egress) = &self.egress else { return Ok(()) };
        let Verdict::Refused(list) = egress.check_name(name, None) else {
            return Ok(());
        };
        Err(refused(DriverStep::Lookup, name, EgressRefusal::new(Host::Name(name.clone()), None, list)))
    }

    /// The secret `id`, if the frame has been granted it.
    #[cfg(feature = "http")]
    pub(crate) fn secret(&self, id: &SecretId) -> Result<Arc<StoredSecret>, SecretError> {
        let not_granted = || SecretError::NotGranted { id: id.clone() };
        self.secrets.as_ref().ok_or_else(not_granted)?.get(id)
    }

    /// The limits that hold for what is dialled.
    pub(crate) fn limits(&self) -> &Arc<Limits> {
        self.networks.limits()
    }

    pub(crate) fn permit(&self) -> Result<Permit, LimitReached> {
        self.limits().connection(&self.unit)
    }

    fn account(&self, recording: &Recording) -> Account {
        let (limits, unit) = (Arc::clone(self.limits()), self.unit.clone());
        Account { limits, unit, recording: recording.clone() }
    }

    /// The network of this moment.
    pub(crate) fn network(&self) -> Result<Arc<Registered>, NetworkError> {
        let id = match &self.route {
            Route::Clearnet => return Ok(self.networks.clearnet()),
            Route::Network(id) => id,
        };
        self.networks.get(id).ok_or_else(|| NetworkError::NotFound {
            id: id.clone(),
            chosen_by: self.chosen_by,
            missing: Missing::Network,
        })
    }
}

fn refused(step: DriverStep, peer: impl fmt::Display, refusal: EgressRefusal) -> DriverError {
    DriverError::new(step, peer, Cause::Egress(Box::new(refusal)))
}

fn limited(step: DriverStep, peer: impl fmt::Display, error: LimitReached) -> DriverError {
    DriverError::new(step, peer, Cause::Limit(error))
}

pub(crate) fn unrecorded(step: DriverStep, peer: impl fmt::Display, error: Unrecorded) -> DriverError {
    DriverError::new(step, peer, Cause::Unrecorded(error))
}
