//! DescribeClientQuotas, AlterClientQuotas.

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::alter_client_quotas_request::EntryData as Asked;
use kafka_wire::messages::alter_client_quotas_response::{EntityData as AlteredEntity, EntryData as Altered};
use kafka_wire::messages::describe_client_quotas_request::ComponentData;
use kafka_wire::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_wire::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, DescribeClientQuotasRequest,
    DescribeClientQuotasResponse, StrBytes,
};

use super::{Alteration, Entity, Part};
use crate::admin::{code_and_message, refuse, repeated, shorten, text, too_many};
use crate::controller::Refusal;
use crate::shared::RequestContext;

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";
/// The match types of DescribeClientQuotas.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

pub(crate) async fn describe(
    ctx: &RequestContext,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let filter = match Filter::read(&request.components, request.strict) {
        Ok(filter) => filter,
        Err(Refusal { code, message }) => {
            return DescribeClientQuotasResponse::default()
                .with_error_code(code.0)
                .with_error_message(Some(text(message)))
                .with_entries(None);
        }
    };
    let image = ctx.image();
    let entries = image.quotas.iter().filter(|(entity, _)| filter.matches(entity)).map(|(entity, values)| {
        let entity = named(entity).map(|(kind, name)| {
            EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
        });
        let values =
            values.iter().map(|(key, value)| ValueData::default().with_key(text(key)).with_value(*value));
        EntryData::default().with_entity(entity.collect()).with_values(values.collect())
    });
    DescribeClientQuotasResponse::default().with_error_message(None).with_entries(Some(entries.collect()))
}

pub(crate) async fn alter(
    ctx: &RequestContext,
    mut request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let too_long = shorten(&mut request.entries);
    let twice = repeated(request.entries.iter().filter_map(|asked| entity(asked).ok()));
    let asked = request.entries.iter().map(|asked| {
        let (entity, changes) = alteration(asked)?;
        match (too_long, twice.contains(&entity)) {
            (true, _) => too_many(),
            (_, true) => refuse(ErrorCode::INVALID_REQUEST, "Each entity must appear at most once."),
            _ => Ok((entity, changes)),
        }
    });
    let outcomes = ctx.shared.controller.alter_quotas(asked.collect(), request.validate_only);
    let entries = request.entries.into_iter().zip(outcomes).map(|(asked, outcome)| {
        let (code, message) = code_and_message(&outcome);
        let entity = asked.entity.into_iter().map(|part| {
            AlteredEntity::default().with_entity_type(part.entity_type).with_entity_name(part.entity_name)
        });
        Altered::default().with_error_code(code).with_error_message(message).with_entity(entity.collect())
    });
    AlterClientQuotasResponse::default().with_entries(entries.collect())
}

/// The components of an entity, by type and name.
fn named(entity: &Entity) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let parts = [(USER, &entity.user), (CLIENT_ID, &entity.client_id), (IP, &entity.ip)];
    parts.into_iter().filter_map(|(kind, part)| match part {
        Part::Absent => None,
        Part::Default => Some((kind, None)),
        Part::Named(name) => Some((kind, Some(name.to_string()))),
    })
}

fn alteration(asked: &Asked) -> Result<Alteration, Refusal> {
    let changes =
        asked.ops.iter().map(|change| (change.key.to_string(), (!change.remove).then_some(change.value)));
    Ok((entity(asked)?, changes.collect()))
}

fn entity(asked: &Asked) -> Result<Entity, Refusal> {
    let mut entity = Entity::default();
    for part in &asked.entity {
        let kind = part.entity_type.as_str();
        let place = place(&mut entity, kind).ok_or_else(|| {
            let message = format!("Unhandled client quota entity type: {kind}");
            Refusal::new(ErrorCode::INVALID_REQUEST, message)
        })?;
        if *place != Part::Absent {
            let message = format!("Invalid client quota entity, duplicate entity entry {kind}");
            return refuse(ErrorCode::INVALID_REQUEST, message);
        }
        *place = match &part.entity_name {
            None => Part::Default,
            Some(name) if name.is_empty() => {
                return refuse(ErrorCode::INVALID_REQUEST, format!("Empty {kind} not supported"));
            }
            Some(name) => Part::Named(name.as_str().into()),
        };
    }
    Ok(entity)
}

fn place<'e>(entity: &'e mut Entity, kind: &str) -> Option<&'e mut Part> {
    match kind {
        USER => Some(&mut entity.user),
        CLIENT_ID => Some(&mut entity.client_id),
        IP => Some(&mut entity.ip),
        _ => None,
    }
}

/// Which entities are described.
#[derive(Debug, Default)]
struct Filter {
    user: Wanted,
    client_id: Wanted,
    ip: Wanted,
    /// Whether an entity may not have components that the filter does not name.
    strict: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Unasked,
    Specified,
    Exactly(Part),
}

impl Filter {
    fn read(components: &[ComponentData], strict: bool) -> Result<Self, Refusal> {
        let mut filter = Self { strict, ..Self::default() };
        for component in components {
            filter.add(component.entity_type.as_str(), component.match_type, component._match.as_ref())?;
        }
        let with_others = filter.user != Wanted::Unasked || filter.client_id != Wanted::Unasked;
        if filter.ip != Wanted::Unasked && with_others {
            let message = "Invalid entity filter component combination. IP filter component should not be used with \
                           user or clientId filter component.";
            return refuse(ErrorCode::INVALID_REQUEST, message);
        }
        Ok(filter)
    }

    fn add(&mut self, kind: &str, match_type: i8, name: Option<&StrBytes>) -> Result<(), Refusal> {
        let invalid = |message: String| refuse(ErrorCode::INVALID_REQUEST, message);
        let place = match kind {
            USER => &mut self.user,
            CLIENT_ID => &mut self.client_id,
            IP => &mut self.ip,
            "" => return invalid("Invalid empty entity type.".to_owned()),
            other => {
                return refuse(ErrorCode::UNSUPPORTED_VERSION, format!("Unsupported entity type {other}"));
            }
        };
        if *place != Wanted::Unasked {
            return invalid(format!("Entity type {kind} cannot appear more than once in the filter."));
        }
        *place = match (match_type, name) {
            (EXACT, Some(name)) => Wanted::Exactly(Part::Named(name.as_str().into())),
            (DEFAULT, None) => Wanted::Exactly(Part::Default),
            (SPECIFIED, None) => Wanted::Specified,
            (EXACT, None) => {
                return invalid(
                    "Request specified MATCH_TYPE_EXACT, but set match string to null.".to_owned(),
                );
            }
            (DEFAULT | SPECIFIED, Some(_)) => {
                return invalid(format!("Match type {match_type} goes without a match string."));
            }
            _ => return invalid(format!("Unknown match type {match_type}")),
        };
        Ok(())
    }

    fn matches(&self, entity: &Entity) -> bool {
        let matches = |wanted: &Wanted, part: &Part| match wanted {
            Wanted::Unasked => !self.strict || *part == Part::Absent,
            Wanted::Specified => *part != Part::Absent,
            Wanted::Exactly(exactly) => part == exactly,
        };
        matches(&self.user, &entity.user)
            && matches(&self.client_id, &entity.client_id)
            && matches(&self.ip, &entity.ip)
    }
}
