//! Describing and altering the configurations of topics, brokers and groups.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::future::join_all;
use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::create_topics_response::CreatableTopicConfigs;
use kafka_client::raw::wire::messages::describe_configs_request::DescribeConfigsResource;
use kafka_client::raw::wire::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_client::raw::wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_client::raw::wire::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest, StrBytes};
use kafka_client::{Api, NodeId, Result};
use tokio::time::Instant;

use crate::admin::{Admin, Answers, Outcomes, controller_may_change_its_mind, outcome};
use crate::topics::text;

/// What has configurations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// One broker.
    Broker(NodeId),
    /// The defaults of all brokers.
    AllBrokers,
    /// The log levels of one broker.
    BrokerLogger(NodeId),
    /// A group (KIP-848).
    Group(String),
    /// A subscription to clients' metrics (KIP-714).
    ClientMetrics(String),
}

impl ConfigResource {
    /// A topic.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::Topic(name.into())
    }

    fn type_id(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) | Self::AllBrokers => 4,
            Self::BrokerLogger(_) => 8,
            Self::ClientMetrics(_) => 16,
            Self::Group(_) => 32,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Topic(name) | Self::Group(name) | Self::ClientMetrics(name) => name.clone(),
            Self::Broker(id) | Self::BrokerLogger(id) => id.to_string(),
            Self::AllBrokers => String::new(),
        }
    }

    /// Who knows: what is one broker's, only that broker.
    fn route(&self) -> Route {
        match self {
            Self::Broker(id) | Self::BrokerLogger(id) => Route::Node(*id),
            _ => Route::Any,
        }
    }

    fn from_wire(type_id: i8, name: &str) -> Option<Self> {
        Some(match type_id {
            2 => Self::Topic(name.to_owned()),
            4 if name.is_empty() => Self::AllBrokers,
            4 => Self::Broker(name.parse().ok()?),
            8 => Self::BrokerLogger(name.parse().ok()?),
            16 => Self::ClientMetrics(name.to_owned()),
            32 => Self::Group(name.to_owned()),
            _ => return None,
        })
    }
}

/// The configurations of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Each of them, also those at their defaults, by name.
    pub entries: Vec<ConfigEntry>,
}

impl Config {
    /// The entry with this name.
    pub fn entry(&self, name: &str) -> Option<&ConfigEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The value under this name; `None` also if it is sensitive, and so not told.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entry(name)?.value.as_deref()
    }
}

/// One configuration.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// Its value; `None` if it has none or is sensitive.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while the broker runs.
    pub read_only: bool,
    /// Whether its value is kept from view.
    pub sensitive: bool,
}

/// Where the value of a configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for the broker while it ran.
    Broker,
    /// Set for all brokers while they ran.
    AllBrokers,
    /// The broker's properties file.
    StaticBroker,
    /// Kafka's default.
    Default,
    /// Set for a broker's log levels.
    BrokerLogger,
    /// Set for a subscription to clients' metrics.
    ClientMetrics,
    /// Set for the group.
    Group,
    /// A source that this client does not know.
    Unknown,
}

impl ConfigSource {
    fn from_wire(id: i8) -> Self {
        match id {
            1 => Self::Topic,
            2 => Self::Broker,
            3 => Self::AllBrokers,
            4 => Self::StaticBroker,
            5 => Self::Default,
            6 => Self::BrokerLogger,
            7 => Self::ClientMetrics,
            8 => Self::Group,
            _ => Self::Unknown,
        }
    }
}

impl ConfigEntry {
    fn from_described(entry: DescribeConfigsResourceResult) -> Self {
        Self {
            name: entry.name.to_string(),
            value: entry.value.map(|value| value.to_string()),
            source: ConfigSource::from_wire(entry.config_source),
            read_only: entry.read_only,
            sensitive: entry.is_sensitive,
        }
    }

    pub(crate) fn from_created(entry: CreatableTopicConfigs) -> Self {
        Self {
            name: entry.name.to_string(),
            value: entry.value.map(|value| value.to_string()),
            source: ConfigSource::from_wire(entry.config_source),
            read_only: entry.read_only,
            sensitive: entry.is_sensitive,
        }
    }
}

/// A sensitive value stays out, should a broker send one.
impl std::fmt::Debug for ConfigEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.sensitive { Some("…") } else { self.value.as_deref() };
        f.debug_struct("ConfigEntry")
            .field("name", &self.name)
            .field("value", &value)
            .field("source", &self.source)
            .field("read_only", &self.read_only)
            .finish()
    }
}

/// Changes to the configurations of one resource; what is not named stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct AlterConfigs {
    resource: ConfigResource,
    changes: Vec<(String, Operation, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Set = 0,
    Delete = 1,
    Append = 2,
    Subtract = 3,
}

impl AlterConfigs {
    /// No changes yet.
    pub fn of(resource: ConfigResource) -> Self {
        Self { resource, changes: Vec::new() }
    }

    /// Sets a configuration.
    pub fn set(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.change(name.into(), Operation::Set, Some(value.into()))
    }

    /// Returns a configuration to its default.
    pub fn delete(self, name: impl Into<String>) -> Self {
        self.change(name.into(), Operation::Delete, None)
    }

    /// Adds to a configuration that is a list; several values are separated by commas.
    pub fn append(self, name: impl Into<String>, values: impl Into<String>) -> Self {
        self.change(name.into(), Operation::Append, Some(values.into()))
    }

    /// Takes from a configuration that is a list; several values are separated by commas.
    pub fn subtract(self, name: impl Into<String>, values: impl Into<String>) -> Self {
        self.change(name.into(), Operation::Subtract, Some(values.into()))
    }

    fn change(mut self, name: String, operation: Operation, value: Option<String>) -> Self {
        self.changes.push((name, operation, value));
        self
    }

    fn to_wire(&self) -> AlterConfigsResource {
        let change = |(name, operation, value): &(String, Operation, Option<String>)| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(*operation as i8)
                .with_value(value.as_deref().map(text))
        };
        AlterConfigsResource::default()
            .with_resource_type(self.resource.type_id())
            .with_resource_name(text(&self.resource.name()))
            .with_configs(self.changes.iter().map(change).collect())
    }
}

impl Admin {
    /// Describes the configurations of resources.
    ///
    /// # Errors
    /// No resource was answered for. What is wrong with one resource is in its result.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_configs(
        &self,
        resources: impl IntoIterator<Item = ConfigResource>,
    ) -> Result<Outcomes<ConfigResource, Config>> {
        self.each(
            Api::DescribeConfigs,
            resources.into_iter().collect(),
            |_| false,
            move |open, deadline| async move {
                let ask = |route: Route, resources: Vec<ConfigResource>| async move {
                    let resource = |resource: &ConfigResource| {
                        DescribeConfigsResource::default()
                            .with_resource_type(resource.type_id())
                            .with_resource_name(text(&resource.name()))
                            .with_configuration_keys(None)
                    };
                    let request = DescribeConfigsRequest::default()
                        .with_resources(resources.iter().map(resource).collect());
                    let answer =
                        self.client().request(route).deadline(deadline).send(|_| Ok(request.clone())).await?;
                    let mut answers = HashMap::new();
                    for result in answer.response.results {
                        let message = result.error_message.as_ref();
                        let outcome = outcome(result.error_code, Api::DescribeConfigs, answer.node, message);
                        let mut entries: Vec<_> =
                            result.configs.into_iter().map(ConfigEntry::from_described).collect();
                        entries.sort_by(|a, b| a.name.cmp(&b.name));
                        insert(
                            &mut answers,
                            result.resource_type,
                            &result.resource_name,
                            outcome.map(|()| Config { entries }),
                        );
                    }
                    Ok(answers)
                };
                by_route(open, ask).await
            },
        )
        .await
    }

    /// Changes configurations of resources. Of one resource, all changes are made or none.
    ///
    /// # Errors
    /// No resource was answered for. What is wrong with one resource is in its result.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn alter_configs(
        &self,
        changes: impl IntoIterator<Item = AlterConfigs>,
    ) -> Result<Outcomes<ConfigResource, ()>> {
        self.alter(changes.into_iter().collect(), false).await
    }

    /// Checks whether changes to configurations could be made, and makes none.
    ///
    /// # Errors
    /// As [`alter_configs`](Self::alter_configs).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn validate_configs(
        &self,
        changes: impl IntoIterator<Item = AlterConfigs>,
    ) -> Result<Outcomes<ConfigResource, ()>> {
        self.alter(changes.into_iter().collect(), true).await
    }

    async fn alter(
        &self,
        changes: Vec<AlterConfigs>,
        validate_only: bool,
    ) -> Result<Outcomes<ConfigResource, ()>> {
        let resources = changes.iter().map(|change| change.resource.clone()).collect();
        let changes = &changes;
        self.each(
            Api::IncrementalAlterConfigs,
            resources,
            controller_may_change_its_mind,
            move |open, deadline: Instant| async move {
                let ask = |route: Route, resources: Vec<ConfigResource>| async move {
                    let resources: HashSet<ConfigResource> = resources.into_iter().collect();
                    let wanted = changes.iter().filter(|change| resources.contains(&change.resource));
                    let request = IncrementalAlterConfigsRequest::default()
                        .with_resources(wanted.map(AlterConfigs::to_wire).collect())
                        .with_validate_only(validate_only);
                    let answer =
                        self.client().request(route).deadline(deadline).send(|_| Ok(request.clone())).await?;
                    let mut answers = HashMap::new();
                    for result in answer.response.responses {
                        let message = result.error_message.as_ref();
                        let outcome =
                            outcome(result.error_code, Api::IncrementalAlterConfigs, answer.node, message);
                        insert(&mut answers, result.resource_type, &result.resource_name, outcome);
                    }
                    Ok(answers)
                };
                by_route(open, ask).await
            },
        )
        .await
    }
}

fn insert<T>(answers: &mut Answers<ConfigResource, T>, type_id: i8, name: &StrBytes, outcome: Result<T>) {
    if let Some(resource) = ConfigResource::from_wire(type_id, name) {
        answers.insert(resource, outcome);
    }
}

/// Asks for what is one broker's at that broker, and for the rest at any, all at once.
async fn by_route<T, F>(
    resources: Vec<ConfigResource>,
    ask: impl Fn(Route, Vec<ConfigResource>) -> F,
) -> Result<Answers<ConfigResource, T>>
where
    F: Future<Output = Result<Answers<ConfigResource, T>>>,
{
    let mut routes: BTreeMap<Option<NodeId>, Vec<ConfigResource>> = BTreeMap::new();
    for resource in resources {
        let node = if let Route::Node(id) = resource.route() { Some(id) } else { None };
        routes.entry(node).or_default().push(resource);
    }
    let only = routes.len() == 1;
    let ask = |(node, resources): (&Option<NodeId>, &Vec<ConfigResource>)| {
        ask(node.map_or(Route::Any, Route::Node), resources.clone())
    };
    let asked = join_all(routes.iter().map(ask)).await;
    let mut answers = HashMap::new();
    for (resources, outcome) in routes.into_values().zip(asked) {
        match outcome {
            Ok(outcome) => answers.extend(outcome),
            Err(error) if only => return Err(error),
            Err(error) => {
                answers.extend(resources.into_iter().map(|resource| (resource, Err(error.clone()))))
            }
        }
    }
    Ok(answers)
}
