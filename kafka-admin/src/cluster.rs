//! Describing the cluster: its id, its brokers, its controller.

use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::{DescribeClusterRequest, MetadataRequest};
use kafka_client::{ErrorCode, ErrorKind, NodeId, Result};

use crate::admin::Admin;

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// Its id.
    pub id: Option<String>,
    /// The broker to which requests for the controller go.
    pub controller: Option<NodeId>,
    /// Its brokers that are up, by ascending id.
    pub brokers: Vec<BrokerDescription>,
}

/// A broker and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerDescription {
    /// Its id.
    pub id: NodeId,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

impl Admin {
    /// Describes the cluster.
    ///
    /// # Errors
    /// No broker answered.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        let call = self.request(Route::Any);
        let described = call
            .send_checked(|_| Ok(DescribeClusterRequest::default()), |answer| ErrorCode(answer.error_code))
            .await;
        match described {
            Ok(answer) => {
                let described = answer.response;
                let brokers = described.brokers.into_iter().map(|broker| {
                    BrokerDescription::new(
                        broker.broker_id.0,
                        &broker.host,
                        broker.port,
                        broker.rack.as_deref(),
                    )
                });
                let id = Some(described.cluster_id.to_string());
                Ok(ClusterDescription::new(id, described.controller_id.0, brokers.collect()))
            }
            // Before Kafka 2.8 metadata told the same.
            Err(error) if matches!(error.kind(), ErrorKind::UnsupportedVersion { .. }) => {
                let make = |version| {
                    Ok(MetadataRequest::default()
                        .with_topics(Some(Vec::new()))
                        .with_allow_auto_topic_creation(version < 4))
                };
                let described = self.request(Route::Any).send(make).await?.response;
                let brokers = described.brokers.into_iter().map(|broker| {
                    BrokerDescription::new(
                        broker.node_id.0,
                        &broker.host,
                        broker.port,
                        broker.rack.as_deref(),
                    )
                });
                let id = described.cluster_id.map(|id| id.to_string());
                Ok(ClusterDescription::new(id, described.controller_id.0, brokers.collect()))
            }
            Err(error) => Err(error),
        }
    }
}

impl ClusterDescription {
    fn new(id: Option<String>, controller: NodeId, mut brokers: Vec<BrokerDescription>) -> Self {
        brokers.sort_by_key(|broker| broker.id);
        Self { id, controller: Some(controller).filter(|id| *id >= 0), brokers }
    }
}

impl BrokerDescription {
    fn new(id: NodeId, host: &str, port: i32, rack: Option<&str>) -> Self {
        Self { id, host: host.to_owned(), port, rack: rack.map(str::to_owned) }
    }
}
