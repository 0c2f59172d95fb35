//! The quotas of clients, by user, client id and address (KIP-546, KIP-612).

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_client::raw::wire::messages::describe_client_quotas_request::ComponentData;
use kafka_client::raw::wire::messages::{
    AlterClientQuotasRequest, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use kafka_client::{Api, ErrorCode, Result};

use crate::admin::{Admin, Outcomes, controller_may_change_its_mind, outcome};
use crate::topics::text;

/// A type of entity: those who were authenticated.
const USER: &str = "user";
/// A type of entity: what clients call themselves.
const CLIENT_ID: &str = "client-id";
/// A type of entity: where clients connect from.
const IP: &str = "ip";

/// Whom a quota is for: a user, a client id, both together, or an address. A part without a name stands for all who
/// have no quota under their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientQuotaEntity(BTreeMap<String, Option<String>>);

impl ClientQuotaEntity {
    /// This user.
    #[must_use]
    pub fn user(name: impl Into<String>) -> Self {
        Self::default().with(USER, Some(name.into()))
    }

    /// All users without a quota of their own.
    #[must_use]
    pub fn default_user() -> Self {
        Self::default().with(USER, None)
    }

    /// Clients with this id, whoever they are.
    #[must_use]
    pub fn client_id(id: impl Into<String>) -> Self {
        Self::default().with(CLIENT_ID, Some(id.into()))
    }

    /// All clients without a quota of their own.
    #[must_use]
    pub fn default_client_id() -> Self {
        Self::default().with(CLIENT_ID, None)
    }

    /// Clients that connect from this address.
    #[must_use]
    pub fn ip(address: impl Into<String>) -> Self {
        Self::default().with(IP, Some(address.into()))
    }

    /// Clients that connect from any address without a quota of its own.
    #[must_use]
    pub fn default_ip() -> Self {
        Self::default().with(IP, None)
    }

    /// Of those, only clients with this id.
    #[must_use]
    pub fn and_client_id(self, id: impl Into<String>) -> Self {
        self.with(CLIENT_ID, Some(id.into()))
    }

    /// Of those, each client id without a quota of its own.
    #[must_use]
    pub fn and_default_client_id(self) -> Self {
        self.with(CLIENT_ID, None)
    }

    /// Adds a part of any type, also one that this client does not know; without a name it is the default of its type.
    #[must_use]
    pub fn with(mut self, entity_type: impl Into<String>, name: Option<String>) -> Self {
        self.0.insert(entity_type.into(), name);
        self
    }

    /// The types of its parts, such as `user`, each with its name, or `None` for the default of the type.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(kind, name)| (kind.as_str(), name.as_deref()))
    }

    fn to_wire(&self) -> Vec<EntityData> {
        let part = |(kind, name): (&str, Option<&str>)| {
            EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
        };
        self.entries().map(part).collect()
    }
}

/// As `user=alice, client-id=<default>`.
impl fmt::Display for ClientQuotaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (kind, name)) in self.entries().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{kind}={}", name.unwrap_or("<default>"))?;
        }
        Ok(())
    }
}

/// Which entities' quotas to describe; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ClientQuotaFilter {
    components: BTreeMap<String, Match>,
    strict: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Match {
    Exact(String),
    Default,
    Any,
}

impl ClientQuotaFilter {
    /// All entities.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only entities with this user.
    pub fn user(self, name: impl Into<String>) -> Self {
        self.with(USER, Match::Exact(name.into()))
    }

    /// Only entities with the default of all users.
    pub fn default_user(self) -> Self {
        self.with(USER, Match::Default)
    }

    /// Only entities with some user, or the default.
    pub fn any_user(self) -> Self {
        self.with(USER, Match::Any)
    }

    /// Only entities with this client id.
    pub fn client_id(self, id: impl Into<String>) -> Self {
        self.with(CLIENT_ID, Match::Exact(id.into()))
    }

    /// Only entities with the default of all client ids.
    pub fn default_client_id(self) -> Self {
        self.with(CLIENT_ID, Match::Default)
    }

    /// Only entities with some client id, or the default.
    pub fn any_client_id(self) -> Self {
        self.with(CLIENT_ID, Match::Any)
    }

    /// Only entities with this address.
    pub fn ip(self, address: impl Into<String>) -> Self {
        self.with(IP, Match::Exact(address.into()))
    }

    /// Only entities with the default of all addresses.
    pub fn default_ip(self) -> Self {
        self.with(IP, Match::Default)
    }

    /// Only entities with some address, or the default.
    pub fn any_ip(self) -> Self {
        self.with(IP, Match::Any)
    }

    /// Only entities that have no other parts than those that the filter names.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    fn with(mut self, kind: &str, wanted: Match) -> Self {
        self.components.insert(kind.to_owned(), wanted);
        self
    }

    fn to_wire(&self) -> DescribeClientQuotasRequest {
        let component = |(kind, wanted): (&String, &Match)| {
            let (id, name) = match wanted {
                Match::Exact(name) => (0, Some(text(name))),
                Match::Default => (1, None),
                Match::Any => (2, None),
            };
            ComponentData::default().with_entity_type(text(kind)).with_match_type(id).with_match(name)
        };
        DescribeClientQuotasRequest::default()
            .with_components(self.components.iter().map(component).collect())
            .with_strict(self.strict)
    }
}

/// Changes to the quotas of one entity; what is not named stays as it is.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct ClientQuotaAlteration {
    entity: ClientQuotaEntity,
    ops: Vec<(String, Option<f64>)>,
}

impl ClientQuotaAlteration {
    /// Bytes a second that producers may send to one broker.
    pub const PRODUCER_BYTE_RATE: &str = "producer_byte_rate";
    /// Bytes a second that consumers may fetch from one broker.
    pub const CONSUMER_BYTE_RATE: &str = "consumer_byte_rate";
    /// Time on the request and network threads of one broker, in percent of one thread.
    pub const REQUEST_PERCENTAGE: &str = "request_percentage";
    /// Changes of partitions a second, by requests to create and delete topics and partitions (KIP-599).
    pub const CONTROLLER_MUTATION_RATE: &str = "controller_mutation_rate";
    /// Connections a second from an address to one broker (KIP-612).
    pub const CONNECTION_CREATION_RATE: &str = "connection_creation_rate";

    /// No changes yet.
    pub fn of(entity: ClientQuotaEntity) -> Self {
        Self { entity, ops: Vec::new() }
    }

    /// Sets a quota, such as [`PRODUCER_BYTE_RATE`](Self::PRODUCER_BYTE_RATE).
    pub fn set(mut self, key: impl Into<String>, value: f64) -> Self {
        self.ops.push((key.into(), Some(value)));
        self
    }

    /// Removes a quota.
    pub fn remove(mut self, key: impl Into<String>) -> Self {
        self.ops.push((key.into(), None));
        self
    }

    fn to_wire(&self) -> EntryData {
        let op = |(key, value): &(String, Option<f64>)| {
            OpData::default()
                .with_key(text(key))
                .with_value(value.unwrap_or_default())
                .with_remove(value.is_none())
        };
        EntryData::default().with_entity(self.entity.to_wire()).with_ops(self.ops.iter().map(op).collect())
    }
}

impl Admin {
    /// Describes quotas, each entity's by their names. Needs Kafka 2.6.
    ///
    /// # Errors
    /// No broker answered, or it refused, such as with `INVALID_REQUEST` for a filter with both a user and an address.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_client_quotas(
        &self,
        filter: ClientQuotaFilter,
    ) -> Result<BTreeMap<ClientQuotaEntity, BTreeMap<String, f64>>> {
        let request = filter.to_wire();
        // What may pass leads to another attempt here, without its message.
        let passing = |answer: &DescribeClientQuotasResponse| {
            Some(ErrorCode(answer.error_code)).filter(|code| code.is_retriable()).unwrap_or(ErrorCode::NONE)
        };
        let answer = self.request(Route::Any).send_checked(|_| Ok(request.clone()), passing).await?;
        let (node, described) = (answer.node, answer.response);
        outcome(described.error_code, Api::DescribeClientQuotas, node, described.error_message.as_ref())?;
        let entry = |entry: kafka_client::raw::wire::messages::describe_client_quotas_response::EntryData| {
            let parts = entry.entity.into_iter();
            let parts = parts.map(|part| (part.entity_type.to_string(), optional(part.entity_name)));
            let values = entry.values.into_iter().map(|value| (value.key.to_string(), value.value));
            (ClientQuotaEntity(parts.collect()), values.collect())
        };
        Ok(described.entries.unwrap_or_default().into_iter().map(entry).collect())
    }

    /// Changes quotas. Of one entity, all changes are made or none. Needs Kafka 2.6.
    ///
    /// # Errors
    /// No entity was answered for. What is wrong with one entity is in its result.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn alter_client_quotas(
        &self,
        alterations: impl IntoIterator<Item = ClientQuotaAlteration>,
    ) -> Result<Outcomes<ClientQuotaEntity, ()>> {
        self.change_client_quotas(alterations.into_iter().collect(), false).await
    }

    /// Checks whether quotas could be changed, and changes none.
    ///
    /// # Errors
    /// As [`alter_client_quotas`](Self::alter_client_quotas).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn validate_client_quotas(
        &self,
        alterations: impl IntoIterator<Item = ClientQuotaAlteration>,
    ) -> Result<Outcomes<ClientQuotaEntity, ()>> {
        self.change_client_quotas(alterations.into_iter().collect(), true).await
    }

    async fn change_client_quotas(
        &self,
        alterations: Vec<ClientQuotaAlteration>,
        validate_only: bool,
    ) -> Result<Outcomes<ClientQuotaEntity, ()>> {
        let entities = alterations.iter().map(|alteration| alteration.entity.clone()).collect();
        let alterations = &alterations;
        self.each(
            Api::AlterClientQuotas,
            entities,
            controller_may_change_its_mind,
            move |open, deadline| async move {
                let open: HashSet<ClientQuotaEntity> = open.into_iter().collect();
                let wanted = alterations.iter().filter(|alteration| open.contains(&alteration.entity));
                let request = AlterClientQuotasRequest::default()
                    .with_entries(wanted.map(ClientQuotaAlteration::to_wire).collect())
                    .with_validate_only(validate_only);
                let call = self.client().request(Route::Controller).deadline(deadline);
                let answer = call.send(|_| Ok(request.clone())).await?;
                let results = answer.response.entries.into_iter().map(|entry| {
                    let message = entry.error_message.as_ref();
                    let outcome = outcome(entry.error_code, Api::AlterClientQuotas, answer.node, message);
                    let parts = entry.entity.into_iter();
                    let parts = parts.map(|part| (part.entity_type.to_string(), optional(part.entity_name)));
                    (ClientQuotaEntity(parts.collect()), outcome)
                });
                Ok(results.collect())
            },
        )
        .await
    }
}

fn optional(name: Option<kafka_client::raw::wire::messages::StrBytes>) -> Option<String> {
    name.map(|name| name.to_string())
}
