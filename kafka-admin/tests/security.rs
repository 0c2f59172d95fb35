//! Who may do what, and how much of it, on whatever cluster there is: the one that `KAFKA_BOOTSTRAP` names, or else the
//! bundled broker. A cluster without an authorizer has no access control lists.
#![allow(clippy::unwrap_used, reason = "helpers of tests may do what tests do")]

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_admin::{
    AccessControlEntry, AclBinding, AclBindingFilter, AclOperation, Admin, ClientQuotaAlteration,
    ClientQuotaEntity, ClientQuotaFilter, FeatureUpdate, PatternType, PermissionType, ResourcePattern,
    ResourceType, ScramMechanism, UserScramCredentialAlteration,
};
use kafka_broker::Cluster;
use kafka_client::{Client, ErrorCode};
use tokio::time::{Instant, sleep};

/// The cluster, kept alive if it is our own, and an admin of it.
async fn cluster() -> (Option<Cluster>, Admin) {
    let (cluster, bootstrap) = match std::env::var("KAFKA_BOOTSTRAP") {
        Ok(bootstrap) => (None, bootstrap),
        Err(_) => {
            let authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
            let builder = Cluster::builder().brokers(3).config("authorizer.class.name", authorizer);
            let cluster = builder.super_user("ANONYMOUS").start().await.unwrap();
            let bootstrap = cluster.bootstrap();
            (Some(cluster), bootstrap)
        }
    };
    (cluster, Admin::new(&Client::connect(bootstrap).await.unwrap()))
}

/// A name that no other run uses.
fn unique(name: &str) -> String {
    format!("{name}-{:016x}", fastrand::u64(..))
}

/// Asks until the answer is as wanted: a real cluster spreads its metadata in its own time.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn code<T>(outcome: &kafka_admin::Result<T>) -> Option<ErrorCode> {
    outcome.as_ref().err().map(|error| error.error_code().unwrap())
}

#[tokio::test]
async fn access_control_lists_are_created_found_and_deleted() {
    let (_cluster, admin) = cluster().await;
    let principal = format!("User:{}", unique("alice"));
    let topic = unique("orders");
    let mine = || AclBindingFilter::any().principal(&principal);
    match admin.describe_acls(mine()).await {
        Err(error) if error.error_code() == Some(ErrorCode::SECURITY_DISABLED) => {
            let refused = admin
                .create_acls([AclBinding::new(
                    ResourcePattern::topic(&topic),
                    AccessControlEntry::allow(&principal, AclOperation::Read),
                )])
                .await
                .unwrap();
            assert_eq!(code(&refused[0].1), Some(ErrorCode::SECURITY_DISABLED));
            return;
        }
        described => assert_eq!(described.unwrap(), []),
    }

    let read = AclBinding::new(
        ResourcePattern::topic(&topic),
        AccessControlEntry::allow(&principal, AclOperation::Read),
    );
    let prefixed = AclBinding::new(
        ResourcePattern::topic(&topic[..topic.len() - 3]).prefixed(),
        AccessControlEntry::deny(&principal, AclOperation::Write).host("10.0.0.7"),
    );
    let group = AclBinding::new(
        ResourcePattern::group("*"),
        AccessControlEntry::allow(&principal, AclOperation::All),
    );
    let cluster = AclBinding::new(
        ResourcePattern::cluster(),
        AccessControlEntry::allow(&principal, AclOperation::IdempotentWrite),
    );
    let user = AclBinding::new(
        ResourcePattern::user("User:bob"),
        AccessControlEntry::allow(&principal, AclOperation::CreateTokens),
    );
    let bad = AclBinding::new(
        ResourcePattern::topic(&topic),
        AccessControlEntry::allow(&principal, AclOperation::Any),
    );
    let nowhere = AclBinding::new(
        ResourcePattern::new(ResourceType::Cluster, "another"),
        AccessControlEntry::allow(&principal, AclOperation::Alter),
    );
    let unnamed = AclBinding::new(
        ResourcePattern::topic(&topic),
        AccessControlEntry::allow("nobody without a type", AclOperation::Read),
    );
    let good = [read.clone(), prefixed.clone(), group.clone(), cluster.clone(), user.clone()];
    let all = good.iter().cloned().chain([bad, nowhere, unnamed]);
    let created = admin.create_acls(all).await.unwrap();
    let codes: Vec<_> = created.iter().map(|(_, outcome)| code(outcome)).collect();
    let invalid = Some(ErrorCode::INVALID_REQUEST);
    assert_eq!(codes, [None, None, None, None, None, invalid, invalid, invalid]);
    let again = admin.create_acls([read.clone()]).await.unwrap();
    assert_eq!(code(&again[0].1), None);

    let mut expected = good.to_vec();
    expected.sort();
    eventually("every list", async || {
        let mut found = admin.describe_acls(mine()).await.unwrap();
        found.sort();
        (found == expected).then_some(())
    })
    .await;
    let found = async |filter: AclBindingFilter| {
        let mut found = admin.describe_acls(filter).await.unwrap();
        found.sort();
        found
    };
    let covering = found(mine().covering(ResourceType::Topic, &topic)).await;
    assert_eq!(covering.len(), 2, "{covering:?}");
    assert!(covering.contains(&read) && covering.contains(&prefixed));
    assert_eq!(found(mine().covering(ResourceType::Group, "any")).await, std::slice::from_ref(&group));
    let literal = mine().resource_type(ResourceType::Topic).pattern_type(PatternType::Literal);
    assert_eq!(found(literal).await, std::slice::from_ref(&read));
    assert_eq!(found(mine().permission_type(PermissionType::Deny)).await, std::slice::from_ref(&prefixed));
    assert_eq!(found(mine().host("10.0.0.7").name(&topic)).await, []);
    assert_eq!(found(mine().operation(AclOperation::CreateTokens)).await, std::slice::from_ref(&user));

    let one = AclBindingFilter::from(read.clone());
    let rest = mine().pattern_type(PatternType::Any);
    let deleted = admin.delete_acls([one.clone(), one.clone()]).await.unwrap();
    assert_eq!(deleted.len(), 2, "a filter that is given twice has a result for each");
    let gone: Vec<&AclBinding> = deleted[0].1.as_ref().unwrap().iter().map(|(acl, _)| acl).collect();
    assert_eq!(gone, [&read]);
    let deleted = admin.delete_acls([rest, one]).await.unwrap();
    let gone = deleted[0].1.as_ref().unwrap();
    assert_eq!(gone.len(), 4, "{gone:?}");
    assert!(gone.iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!(deleted[1].1.as_ref().unwrap().len(), 0);
    eventually("no list", async || admin.describe_acls(mine()).await.unwrap().is_empty().then_some(())).await;
}

#[tokio::test]
async fn scram_credentials_are_set_described_and_deleted() {
    let (_cluster, admin) = cluster().await;
    let (alice, bob) = (unique("alice"), unique("bob"));
    let upsert = UserScramCredentialAlteration::upsert;
    let (sha256, sha512) = (ScramMechanism::Sha256, ScramMechanism::Sha512);
    let altered = admin
        .alter_user_scram_credentials([
            upsert(&alice, sha256, "a-password"),
            upsert(&bob, sha512, "a-password").iterations(4095),
        ])
        .await
        .unwrap();
    let users: Vec<_> = altered.iter().map(|(user, outcome)| (user.as_str(), code(outcome))).collect();
    assert_eq!(users, [(alice.as_str(), None), (bob.as_str(), Some(ErrorCode::UNACCEPTABLE_CREDENTIAL))]);
    let more = upsert(&alice, sha512, "another").iterations(8192).salt(*b"sixteen bytes!!!");
    let altered = admin.alter_user_scram_credentials([more]).await.unwrap();
    assert!(altered[0].1.is_ok(), "{altered:?}");
    let described = eventually("the credentials", async || {
        let described = admin.describe_user_scram_credentials([&alice, &bob]).await.unwrap();
        let both = described[0].1.as_ref().is_ok_and(|infos| infos.len() == 2);
        both.then_some(described)
    })
    .await;
    assert_eq!(code(&described[1].1), Some(ErrorCode::RESOURCE_NOT_FOUND));
    let mut infos: Vec<_> =
        described[0].1.as_ref().unwrap().iter().map(|info| (info.mechanism, info.iterations)).collect();
    infos.sort();
    assert_eq!(infos, [(sha256, 4096), (sha512, 8192)]);
    let all = admin.describe_all_user_scram_credentials().await.unwrap();
    assert!(all.iter().any(|(user, infos)| *user == alice && infos.as_ref().unwrap().len() == 2));
    assert!(all.iter().all(|(user, _)| *user != bob));

    // The broker's own limit lies lower than that of clients.
    let refused = admin
        .alter_user_scram_credentials([upsert(&bob, sha256, "a-password").iterations(16_385)])
        .await
        .unwrap();
    assert_eq!(code(&refused[0].1), Some(ErrorCode::UNACCEPTABLE_CREDENTIAL));
    let delete = UserScramCredentialAlteration::delete;
    let twice = [delete(&alice, sha256), upsert(&alice, sha512, "a-password")];
    let refused = admin.alter_user_scram_credentials(twice).await.unwrap();
    assert_eq!((refused.len(), code(&refused[0].1)), (1, Some(ErrorCode::DUPLICATE_RESOURCE)));

    let deleted =
        admin.alter_user_scram_credentials([delete(&alice, sha256), delete(&bob, sha256)]).await.unwrap();
    assert_eq!(code(&deleted[0].1), None);
    assert_eq!(code(&deleted[1].1), Some(ErrorCode::RESOURCE_NOT_FOUND));
    let deleted = admin.alter_user_scram_credentials([delete(&alice, sha512)]).await.unwrap();
    assert!(deleted[0].1.is_ok(), "{deleted:?}");
    eventually("no credentials", async || {
        let described = admin.describe_user_scram_credentials([&alice]).await.unwrap();
        (code(&described[0].1) == Some(ErrorCode::RESOURCE_NOT_FOUND)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn client_quotas_are_set_found_and_removed() {
    let (_cluster, admin) = cluster().await;
    let (alice, app) = (unique("alice"), unique("app"));
    const PRODUCE: &str = ClientQuotaAlteration::PRODUCER_BYTE_RATE;
    const CONSUME: &str = ClientQuotaAlteration::CONSUMER_BYTE_RATE;
    let user = ClientQuotaEntity::user(&alice);
    let both = ClientQuotaEntity::user(&alice).and_client_id(&app);
    let by_default = ClientQuotaEntity::user(&alice).and_default_client_id();
    let strange = ClientQuotaEntity::default().with("planet", Some("earth".into()));
    let of = ClientQuotaAlteration::of;
    let changes = || {
        [
            of(user.clone()).set(PRODUCE, 1024.0).set(CONSUME, 2048.0),
            of(both.clone()).set(ClientQuotaAlteration::REQUEST_PERCENTAGE, 0.5),
            of(by_default.clone()).set(PRODUCE, 10.0),
            of(ClientQuotaEntity::user(unique("bob"))).set("no_such_rate", 1.0),
            of(strange.clone()).set(PRODUCE, 1.0),
        ]
    };
    let invalid = Some(ErrorCode::INVALID_REQUEST);
    let expected = [None, None, None, invalid, invalid];
    let checked = admin.validate_client_quotas(changes()).await.unwrap();
    assert_eq!(checked.iter().map(|(_, outcome)| code(outcome)).collect::<Vec<_>>(), expected);
    let of_alice = || ClientQuotaFilter::all().user(&alice);
    assert!(admin.describe_client_quotas(of_alice()).await.unwrap().is_empty());
    let altered = admin.alter_client_quotas(changes()).await.unwrap();
    assert_eq!(altered.iter().map(|(_, outcome)| code(outcome)).collect::<Vec<_>>(), expected);
    assert_eq!((&altered[0].0, &altered[4].0), (&user, &strange));

    let found = eventually("three entities", async || {
        let found = admin.describe_client_quotas(of_alice()).await.unwrap();
        (found.len() == 3).then_some(found)
    })
    .await;
    let rates = |pairs: &[(&str, f64)]| -> BTreeMap<String, f64> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
    };
    assert_eq!(found[&user], rates(&[(PRODUCE, 1024.0), (CONSUME, 2048.0)]));
    assert_eq!(found[&both], rates(&[(ClientQuotaAlteration::REQUEST_PERCENTAGE, 0.5)]));
    assert_eq!(found[&by_default], rates(&[(PRODUCE, 10.0)]));
    let entities = async |filter: ClientQuotaFilter| {
        let found = admin.describe_client_quotas(filter).await.unwrap();
        found.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(entities(of_alice().strict()).await, std::slice::from_ref(&user));
    assert_eq!(entities(of_alice().default_client_id()).await, std::slice::from_ref(&by_default));
    assert_eq!(entities(of_alice().client_id(&app)).await, std::slice::from_ref(&both));
    assert_eq!(entities(of_alice().any_client_id()).await.len(), 2);
    assert_eq!(
        entities(ClientQuotaFilter::all().any_user().client_id(&app)).await,
        std::slice::from_ref(&both)
    );
    assert!(entities(ClientQuotaFilter::all()).await.contains(&user));
    let mixed = admin.describe_client_quotas(of_alice().any_ip()).await;
    assert_eq!(code(&mixed), invalid);

    let removed = admin
        .alter_client_quotas([
            of(user.clone()).remove(PRODUCE).remove(CONSUME),
            of(both).remove(ClientQuotaAlteration::REQUEST_PERCENTAGE),
            of(by_default).remove(PRODUCE),
        ])
        .await
        .unwrap();
    assert!(removed.iter().all(|(_, outcome)| outcome.is_ok()), "{removed:?}");
    eventually("no quota", async || {
        admin.describe_client_quotas(of_alice()).await.unwrap().is_empty().then_some(())
    })
    .await;

    let everywhere = ClientQuotaEntity::ip("192.0.2.7");
    let rate = ClientQuotaAlteration::CONNECTION_CREATION_RATE;
    let set = admin.alter_client_quotas([of(everywhere.clone()).set(rate, 5.0)]).await.unwrap();
    assert!(set[0].1.is_ok(), "{set:?}");
    eventually("the address", async || {
        let found = admin.describe_client_quotas(ClientQuotaFilter::all().ip("192.0.2.7")).await.unwrap();
        (found.get(&everywhere) == Some(&rates(&[(rate, 5.0)]))).then_some(())
    })
    .await;
    let removed = admin.alter_client_quotas([of(everywhere).remove(rate)]).await.unwrap();
    assert!(removed[0].1.is_ok(), "{removed:?}");
}

#[tokio::test]
async fn features_and_the_quorum_are_described() {
    let (_cluster, admin) = cluster().await;
    let features = admin.describe_features().await.unwrap();
    let level = features.finalized["metadata.version"].max_version_level;
    let supported = features.supported["metadata.version"];
    assert!((supported.min_version..=supported.max_version).contains(&level));
    assert!(features.finalized_epoch.is_some());
    let node = admin.describe_cluster().await.unwrap().brokers[0].id;
    assert_eq!(admin.describe_features_of(node).await.unwrap().supported, features.supported);

    let same = FeatureUpdate::upgrade("metadata.version", level);
    assert!(admin.validate_features([same.clone()]).await.unwrap()[0].1.is_ok());
    assert!(admin.update_features([same.clone()]).await.unwrap()[0].1.is_ok());
    for update in [
        FeatureUpdate::upgrade("metadata.version", i16::MAX),
        FeatureUpdate::upgrade("nonsense", 1),
        FeatureUpdate::safe_downgrade("metadata.version", supported.min_version - 1),
        FeatureUpdate::unsafe_downgrade("metadata.version", 0),
    ] {
        let refused = admin.update_features([same.clone(), update]).await.unwrap();
        let codes: Vec<_> = refused.iter().map(|(_, outcome)| code(outcome)).collect();
        assert_eq!(codes[1], Some(ErrorCode::INVALID_UPDATE_VERSION), "{refused:?}");
    }

    let quorum = admin.describe_metadata_quorum().await.unwrap();
    let leader = quorum.leader_id.unwrap();
    let voter = quorum.voters.iter().find(|voter| voter.replica_id == leader).unwrap();
    assert!(voter.log_end_offset >= Some(quorum.high_watermark), "{quorum:?}");
    assert!(voter.last_caught_up_timestamp > Some(1_700_000_000_000), "{quorum:?}");
    assert_eq!(quorum.lag(voter), Some(0));
}
