//! The cluster's features: which levels its brokers support, which are in force, and changing those (KIP-584, KIP-1022).

use std::collections::{BTreeMap, HashSet};

use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::update_features_request::FeatureUpdateKey;
use kafka_client::raw::wire::messages::{ApiVersionsRequest, ApiVersionsResponse, UpdateFeaturesRequest};
use kafka_client::{Api, ErrorCode, NodeId, Result, VersionRange};

use crate::admin::{Admin, Outcomes, controller_may_change_its_mind, outcome};
use crate::topics::text;

/// Before version 3 brokers say nothing of features.
const DESCRIBING: VersionRange = VersionRange { min: 3, max: 4 };

/// From this version on there are checks that change nothing, and unsafe downgrades.
const TYPED: VersionRange = VersionRange { min: 1, max: 2 };

/// What one broker knows of the cluster's features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeatureMetadata {
    /// The levels in force in the whole cluster, by the name of the feature.
    pub finalized: BTreeMap<String, FinalizedVersionRange>,
    /// Which change of the levels in force this is; `None` while the broker knows of none.
    pub finalized_epoch: Option<i64>,
    /// The levels that the broker supports, by the name of the feature. To clients that speak version 3 of ApiVersions
    /// only, brokers do not tell those that start at 0.
    pub supported: BTreeMap<String, SupportedVersionRange>,
}

/// The levels of a feature that are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct FinalizedVersionRange {
    /// The lowest; since Kafka 3.3 the same as the highest.
    pub min_version_level: i16,
    /// The highest.
    pub max_version_level: i16,
}

/// The levels of a feature that a broker supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SupportedVersionRange {
    /// The lowest; 0 means that it can be without the feature.
    pub min_version: i16,
    /// The highest.
    pub max_version: i16,
}

/// A feature and the level that it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct FeatureUpdate {
    feature: String,
    max_version_level: i16,
    upgrade_type: UpgradeType,
}

/// Which changes of a level are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpgradeType {
    /// To a higher level.
    Upgrade,
    /// To a lower level, if no metadata is lost by it.
    SafeDowngrade,
    /// To a lower level, even if metadata is lost by it. Needs Kafka 3.3.
    UnsafeDowngrade,
}

impl UpgradeType {
    fn code(self) -> i8 {
        match self {
            Self::Upgrade => 1,
            Self::SafeDowngrade => 2,
            Self::UnsafeDowngrade => 3,
        }
    }
}

impl FeatureUpdate {
    /// Raises a feature, such as `metadata.version`, to this level.
    pub fn upgrade(feature: impl Into<String>, level: i16) -> Self {
        Self { feature: feature.into(), max_version_level: level, upgrade_type: UpgradeType::Upgrade }
    }

    /// Lowers a feature to this level, if no metadata is lost by it; to 0 takes it out of force.
    pub fn safe_downgrade(feature: impl Into<String>, level: i16) -> Self {
        let upgrade_type = UpgradeType::SafeDowngrade;
        Self { feature: feature.into(), max_version_level: level, upgrade_type }
    }

    /// Lowers a feature to this level, even if metadata is lost by it. Needs Kafka 3.3.
    pub fn unsafe_downgrade(feature: impl Into<String>, level: i16) -> Self {
        let upgrade_type = UpgradeType::UnsafeDowngrade;
        Self { feature: feature.into(), max_version_level: level, upgrade_type }
    }

    fn to_wire(&self, version: i16) -> FeatureUpdateKey {
        let key = FeatureUpdateKey::default()
            .with_feature(text(&self.feature))
            .with_max_version_level(self.max_version_level);
        if version == 0 {
            key.with_allow_downgrade(self.upgrade_type != UpgradeType::Upgrade)
        } else {
            key.with_upgrade_type(self.upgrade_type.code())
        }
    }
}

impl Admin {
    /// Describes the features of the cluster, as some broker knows them. Needs Kafka 2.7.
    ///
    /// # Errors
    /// No broker answered.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_features(&self) -> Result<FeatureMetadata> {
        self.features(Route::Any).await
    }

    /// Describes the features of the cluster, as this broker knows them: while brokers are upgraded one by one, what
    /// they support differs.
    ///
    /// # Errors
    /// The broker did not answer.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_features_of(&self, broker: NodeId) -> Result<FeatureMetadata> {
        self.features(Route::Node(broker)).await
    }

    async fn features(&self, route: Route) -> Result<FeatureMetadata> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text(env!("CARGO_PKG_NAME")))
            .with_client_software_version(text(env!("CARGO_PKG_VERSION")));
        let call = self.request(route).versions(DESCRIBING, "describing features");
        let code = |answer: &ApiVersionsResponse| ErrorCode(answer.error_code);
        let answer = call.send_checked(|_| Ok(request.clone()), code).await?;
        Ok(FeatureMetadata::from_wire(answer.response))
    }

    /// Changes the levels of features, for good: the brokers may be unable to run an older Kafka afterwards. Either all
    /// are changed or, since Kafka 4.0, none.
    ///
    /// # Errors
    /// No feature was answered for. What is wrong with one feature is in its result, such as `INVALID_UPDATE_VERSION`;
    /// brokers since Kafka 4.0 name it in the message and give all features the same one.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn update_features(
        &self,
        updates: impl IntoIterator<Item = FeatureUpdate>,
    ) -> Result<Outcomes<String, ()>> {
        self.change_features(updates.into_iter().collect(), false).await
    }

    /// Checks whether the levels of features could be changed, and changes none. Needs Kafka 3.3.
    ///
    /// # Errors
    /// As [`update_features`](Self::update_features).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn validate_features(
        &self,
        updates: impl IntoIterator<Item = FeatureUpdate>,
    ) -> Result<Outcomes<String, ()>> {
        self.change_features(updates.into_iter().collect(), true).await
    }

    async fn change_features(
        &self,
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    ) -> Result<Outcomes<String, ()>> {
        let names = updates.iter().map(|update| update.feature.clone()).collect();
        let updates = &updates;
        let is_unsafe = updates.iter().any(|update| update.upgrade_type == UpgradeType::UnsafeDowngrade);
        self.each(
            Api::UpdateFeatures,
            names,
            controller_may_change_its_mind,
            move |open, deadline| async move {
                let named: HashSet<&String> = open.iter().collect();
                let make = |version| {
                    let wanted = updates.iter().filter(|update| named.contains(&update.feature));
                    Ok(UpdateFeaturesRequest::default()
                        .with_timeout_ms(self.broker_timeout_ms())
                        .with_feature_updates(wanted.map(|update| update.to_wire(version)).collect())
                        .with_validate_only(validate_only))
                };
                let mut call = self.client().request(Route::Controller).deadline(deadline);
                if validate_only {
                    call = call.versions(TYPED, "checking a change of features");
                } else if is_unsafe {
                    call = call.versions(TYPED, "an unsafe downgrade of features");
                }
                let answer = call.send(make).await?;
                let (node, response) = (answer.node, answer.response);
                let as_a_whole =
                    outcome(response.error_code, Api::UpdateFeatures, node, response.error_message.as_ref());
                // Since version 2 there is nothing but the outcome of it all; before, that of each has more to say.
                let mut answers = open.into_iter().map(|name| (name, as_a_whole.clone())).collect::<Vec<_>>();
                answers.extend(response.results.into_iter().map(|result| {
                    let message = result.error_message.as_ref();
                    let outcome = outcome(result.error_code, Api::UpdateFeatures, node, message);
                    (result.feature.to_string(), as_a_whole.clone().and(outcome))
                }));
                Ok(answers.into_iter().collect())
            },
        )
        .await
    }
}

impl FeatureMetadata {
    fn from_wire(response: ApiVersionsResponse) -> Self {
        let finalized = response.finalized_features.into_iter().map(|feature| {
            let levels = FinalizedVersionRange {
                min_version_level: feature.min_version_level,
                max_version_level: feature.max_version_level,
            };
            (feature.name.to_string(), levels)
        });
        let supported = response.supported_features.into_iter().map(|feature| {
            let levels =
                SupportedVersionRange { min_version: feature.min_version, max_version: feature.max_version };
            (feature.name.to_string(), levels)
        });
        Self {
            finalized: finalized.collect(),
            finalized_epoch: Some(response.finalized_features_epoch).filter(|epoch| *epoch >= 0),
            supported: supported.collect(),
        }
    }
}
