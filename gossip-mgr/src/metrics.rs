//! What the daemon counts, and the Prometheus endpoint that tells it: GET /metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gossip_core::seal::Rejected;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};

/// A label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Label {
    /// alive, suspect, dead; or why a datagram was dropped; or what failed.
    pub what: &'static str,
}

/// What can fail without stopping gossip.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// A datagram that the system did not send.
    Send,
    /// A line of the audit log that was not written.
    AuditLog,
    /// A hook that did not end with status 0 in time.
    Hook,
    /// A measurement in which something could not be read.
    Sensors,
}

impl Failure {
    fn label(self) -> Label {
        let what = match self {
            Self::Send => "send",
            Self::AuditLog => "audit_log",
            Self::Hook => "hook",
            Self::Sensors => "sensors",
        };
        Label { what }
    }
}

/// The counters as `status` shows them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams accepted.
    pub received: u64,
    /// Datagrams dropped as malformed, oversized or of another version.
    pub malformed: u64,
    /// Datagrams dropped as not authentic.
    pub not_authentic: u64,
    /// Datagrams dropped as replayed.
    pub replayed: u64,
    /// See [`Failure::Send`].
    pub send_failures: u64,
    /// See [`Failure::AuditLog`].
    pub audit_log_failures: u64,
    /// See [`Failure::Hook`].
    pub hook_failures: u64,
    /// See [`Failure::Sensors`].
    pub sensor_failures: u64,
}

const MALFORMED: Label = Label { what: "malformed" };
const NOT_AUTHENTIC: Label = Label { what: "not_authentic" };
const REPLAYED: Label = Label { what: "replayed" };

type Float = Gauge<f64, AtomicU64>;

/// The daemon's metrics.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Nodes by state.
    pub nodes: Family<Label, Gauge>,
    /// Mean age of the board in seconds.
    pub mean_age: Float,
    /// Lifeguard's local health.
    pub local_health: Gauge,
    /// Datagrams sent.
    pub sent: Counter,
    /// Datagrams accepted.
    pub received: Counter,
    dropped: Family<Label, Counter>,
    /// Nodes declared dead by this one.
    pub deaths: Counter,
    /// Suspicions of this node.
    pub suspicions: Counter,
    failures: Family<Label, Counter>,
}

impl Metrics {
    /// Counts a dropped datagram.
    pub fn dropped(&self, why: Rejected) {
        let label = match why {
            Rejected::NotAuthentic => NOT_AUTHENTIC,
            Rejected::Replayed => REPLAYED,
            Rejected::Malformed | Rejected::Oversized | Rejected::Version => MALFORMED,
        };
        self.dropped.get_or_create(&label).inc();
    }

    /// The counter of a kind of failure.
    pub fn failures(&self, what: Failure) -> Counter {
        self.failures.get_or_create(&what.label()).clone()
    }

    /// All counters of datagrams and failures.
    pub fn counters(&self) -> Counters {
        let dropped = |label| self.dropped.get_or_create(&label).get();
        let failures = |what| self.failures(what).get();
        Counters {
            sent: self.sent.get(),
            received: self.received.get(),
            malformed: dropped(MALFORMED),
            not_authentic: dropped(NOT_AUTHENTIC),
            replayed: dropped(REPLAYED),
            send_failures: failures(Failure::Send),
            audit_log_failures: failures(Failure::AuditLog),
            hook_failures: failures(Failure::Hook),
            sensor_failures: failures(Failure::Sensors),
        }
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("gossip_mgr");
        registry.register("nodes", "Nodes by state", self.nodes.clone());
        registry.register("board_mean_age_seconds", "Mean age of the board", self.mean_age.clone());
        registry.register("local_health", "0 is good, 8 is bad", self.local_health.clone());
        registry.register("datagrams_sent", "Datagrams sent", self.sent.clone());
        registry.register("datagrams_received", "Datagrams accepted", self.received.clone());
        registry.register("datagrams_dropped", "Datagrams dropped", self.dropped.clone());
        registry.register("deaths", "Nodes declared dead by this one", self.deaths.clone());
        registry.register("suspicions", "Suspicions of this node", self.suspicions.clone());
        registry.register("failures", "Failures that did not stop gossip", self.failures.clone());
        registry
    }

    /// Serves the metrics on `listen` until the runtime ends.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn serve(&self, listen: SocketAddr) -> anyhow::Result<()> {
        let registry = Arc::new(self.registry());
        let answer = move || {
            let registry = Arc::clone(&registry);
            async move { text(&registry) }
        };
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("metrics.listen: cannot bind TCP {listen}"))?;
        let app = Router::new().route("/metrics", get(answer));
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "the metrics endpoint ended");
            }
        });
        Ok(())
    }
}

fn text(registry: &Registry) -> Response {
    let mut body = String::new();
    match encode(&mut body, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], body).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
