//! Requests to handlers without a network: encoded, routed, decoded.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire::address::NodeAddress;
use kafka_wire::api::{Api, Request};
use tokio::sync::Notify;

use crate::acl::Acl;
use crate::clock::Clock;
use crate::config::BrokerConfigs;
use crate::controller::{Controller, NewTopic};
use crate::fault::Injected;
use crate::image::Broker;
use crate::principal::Principal;
use crate::router::{self, Reply};
use crate::sasl::{Credentials, Session};
use crate::shared::{RequestContext, Shared};

/// The brokers 1 to n of a cluster that nobody can connect to.
pub(crate) struct Bench {
    pub(crate) shared: Arc<Shared>,
    principal: Arc<Principal>,
}

impl Bench {
    pub(crate) fn new(brokers: i32) -> Self {
        Self::with_configs(brokers, &[])
    }

    pub(crate) fn with_configs(brokers: i32, configs: &[(&str, &str)]) -> Self {
        let broker = |id| {
            let port = u16::try_from(9090 + id).expect("few brokers");
            Broker {
                id,
                address: NodeAddress::new("127.0.0.1", port),
                more_addresses: [NodeAddress::new("10.0.0.1", port)].into(),
                rack: None,
                alive: true,
            }
        };
        let fixed = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let configs = BrokerConfigs { fixed, ..BrokerConfigs::default() };
        let brokers = (1..=brokers).map(broker).collect();
        let credentials = Credentials::new().expect("randomness");
        let controller = Controller::new(brokers, configs, fastrand::Rng::with_seed(5), credentials, None);
        let shared = Arc::new(Shared::new(Clock::starting_at(0), controller, Vec::new(), None));
        Self { shared, principal: Principal::anonymous() }
    }

    /// Adds a topic with one replica per partition.
    pub(crate) fn topic(self, name: &str, partitions: i32) -> Self {
        let new = NewTopic {
            name: name.into(),
            partitions: Some(partitions),
            replication: Some(1),
            ..NewTopic::default()
        };
        self.shared.controller.create_topic(new, false).expect("a good topic");
        self
    }

    /// What a client gets for `request` in `version` from `broker`.
    pub(crate) async fn call<R: Request>(&self, broker: i32, version: i16, request: R) -> R::Response {
        let mut body = BytesMut::new();
        request.encode(version, &mut body).expect("a request of this version");
        let body = self.serve(broker, R::API, version, body.freeze()).await;
        R::decode_response(version, body).expect("an answer of this version")
    }

    /// The same in bytes.
    pub(crate) async fn serve(&self, broker: i32, api: Api, version: i16, body: Bytes) -> Bytes {
        let ctx = RequestContext {
            shared: Arc::clone(&self.shared),
            broker,
            api,
            version,
            client_id: Some("tester".into()),
            peer: None,
            listener: 0,
            principal: Arc::clone(&self.principal),
            session: Arc::new(Session::new(None)),
            waiter: Arc::new(Notify::new()),
            injected: Injected::default(),
            throttle: Duration::ZERO,
        };
        let Reply::Answer(answer) = router::serve(ctx, body).await.expect("a good request") else {
            panic!("no answer")
        };
        answer.body.concat().into()
    }

    /// The same cluster, asked by another principal.
    pub(crate) fn asked_by(&self, principal: &str) -> Self {
        Self { shared: Arc::clone(&self.shared), principal: Arc::new(Principal::parse(principal)) }
    }

    /// Adds access control lists.
    pub(crate) fn acls(&self, acls: impl IntoIterator<Item = Acl>) {
        let acls = acls.into_iter().map(Ok).collect();
        self.shared.controller.create_acls(acls).into_iter().for_each(|created| created.expect("a good one"));
    }

    /// The broker that coordinates a group, and one that does not.
    pub(crate) fn coordinator(&self, group: &str) -> (i32, i32) {
        let image = self.shared.image();
        let here = image.coordinator(group).expect("a live broker").id;
        let elsewhere = image.live_brokers().map(|broker| broker.id).find(|id| *id != here).unwrap_or(here);
        (here, elsewhere)
    }
}
