//! UpdateFeatures: checked as Kafka checks it. Every feature is at its highest level, and Kafka lowers neither of them, so
//! no update that is accepted changes a level.

use std::collections::BTreeMap;

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::update_features_response::UpdatableFeatureResult;
use kafka_wire::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::{code_and_message, refuse, text};
use crate::api_versions::FEATURES;
use crate::controller::Refusal;
use crate::shared::RequestContext;

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

pub(crate) async fn update(ctx: &RequestContext, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    // The last update counts. Version 0 has no type, and Kafka does not look at `allow_downgrade` any more.
    let updates = request.feature_updates.iter();
    let updates: BTreeMap<&str, (i16, i8)> =
        updates.map(|one| (one.feature.as_str(), (one.max_version_level, one.upgrade_type))).collect();
    let controller = ctx.image().controller();
    let outcome = updates.iter().try_for_each(|(name, (level, kind))| check(name, *level, *kind, controller));
    let outcome = outcome.map_err(|refusal| {
        let what = "The update failed for all features since the following feature had an error";
        Refusal::new(refusal.code, format!("{what}: {}", refusal.message))
    });
    let (code, message) = code_and_message(&outcome);
    let response = UpdateFeaturesResponse::default().with_error_code(code).with_error_message(message);
    if outcome.is_err() || ctx.version >= 2 {
        return response;
    }
    let updated = |name: &str| {
        UpdatableFeatureResult::default().with_feature(text(name)).with_error_message(Some(text("NONE")))
    };
    response.with_results(updates.into_keys().map(updated).collect())
}

fn check(name: &str, level: i16, kind: i8, controller: i32) -> Result<(), Refusal> {
    let invalid = |why: String| {
        let message = format!("Invalid update version {level} for feature {name}. {why}");
        refuse(ErrorCode::INVALID_UPDATE_VERSION, message)
    };
    if !matches!(kind, UPGRADE | SAFE_DOWNGRADE | UNSAFE_DOWNGRADE) {
        return invalid("The controller does not support the given upgrade type.".into());
    }
    if level < 0 {
        return invalid("A feature version cannot be less than 0.".into());
    }
    let Some((_, min, max, now)) = FEATURES.iter().find(|(known, ..)| *known == name) else {
        return invalid(match level {
            0 => format!("Feature {name} not found."),
            _ => format!("Local controller {controller} does not support this feature."),
        });
    };
    if !(*min..=*max).contains(&level) {
        return invalid(format!("Local controller {controller} only supports versions {min}-{max}"));
    }
    if level == *now {
        return Ok(());
    }
    if kind == UPGRADE {
        let remedy = "setting the upgrade type to either safe or unsafe downgrade";
        return invalid(format!("Can't downgrade the version of this feature without {remedy}."));
    }
    if name != "metadata.version" {
        return invalid("Can't downgrade the version of this feature.".into());
    }
    let why = match kind {
        UNSAFE_DOWNGRADE => "Unsafe metadata downgrade is not supported in this version.",
        _ => "Refusing to perform the requested downgrade because it might delete metadata information.",
    };
    let message = format!("Unsupported metadata.version downgrade from {now} to {level}. {why}");
    refuse(ErrorCode::INVALID_UPDATE_VERSION, message)
}
