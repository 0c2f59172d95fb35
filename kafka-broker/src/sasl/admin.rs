//! AlterUserScramCredentials and DescribeUserScramCredentials (KIP-554), by Kafka's rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_wire::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_wire::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_wire::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse, StrBytes,
};
use kafka_wire::sasl::scram::{MAX_SALT, MIN_ITERATIONS, ScramHash, ScramKeys};

use super::{Credentials, ScramCredential};
use crate::controller::Refusal;
use crate::shared::RequestContext;

/// Kafka's, for the same reason as the lower bound of a client: a login must not take a core for long.
const MAX_ITERATIONS: i32 = 16_384;
/// What a cluster holds at most: a hostile administrator could otherwise fill the memory of a test.
const MOST_USERS: usize = 10_000;

/// The changes that a request asks for one user, of which there may be one.
enum Change<'a> {
    Delete(&'a ScramCredentialDeletion),
    Upsert(&'a ScramCredentialUpsertion),
}

impl Change<'_> {
    fn user(&self) -> &StrBytes {
        match self {
            Self::Delete(deletion) => &deletion.name,
            Self::Upsert(upsertion) => &upsertion.name,
        }
    }
}

pub(crate) async fn alter(
    ctx: &RequestContext,
    request: AlterUserScramCredentialsRequest,
) -> AlterUserScramCredentialsResponse {
    let deletions = request.deletions.iter().map(Change::Delete);
    let changes: Vec<Change<'_>> = deletions.chain(request.upsertions.iter().map(Change::Upsert)).collect();
    let twice = crate::admin::repeated(changes.iter().map(|change| change.user().as_str()));
    let mut told = BTreeSet::new();
    let results = ctx.shared.controller.alter_credentials(|credentials| {
        let once = changes.iter().filter(|change| told.insert(change.user().as_str()));
        let results = once.map(|change| {
            let outcome = if twice.contains(change.user().as_str()) {
                let why = "A user credential cannot be altered twice in the same request";
                Err(Refusal::new(ErrorCode::DUPLICATE_RESOURCE, why))
            } else {
                apply(credentials, change)
            };
            let (code, message) = crate::admin::code_and_message(&outcome);
            AlterUserScramCredentialsResult::default()
                .with_user(change.user().clone())
                .with_error_code(code)
                .with_error_message(message)
        });
        results.collect()
    });
    AlterUserScramCredentialsResponse::default().with_results(results.unwrap_or_default())
}

fn apply(credentials: &mut Credentials, change: &Change<'_>) -> Result<(), Refusal> {
    let refuse = |code, why: &str| Err(Refusal::new(code, why));
    let user = change.user().as_str();
    if user.is_empty() {
        return refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, "Username must not be empty");
    }
    let mechanism = match change {
        Change::Delete(deletion) => deletion.mechanism,
        Change::Upsert(upsertion) => upsertion.mechanism,
    };
    let Some(hash) = hash_of(mechanism) else {
        return refuse(ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism");
    };
    match change {
        Change::Delete(_) if credentials.scram(user, hash).is_none() => {
            refuse(ErrorCode::RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist")
        }
        Change::Delete(_) => {
            credentials.remove_scram(user, hash);
            Ok(())
        }
        Change::Upsert(upsertion) => {
            let unacceptable = |why| refuse(ErrorCode::UNACCEPTABLE_CREDENTIAL, why);
            let iterations = u32::try_from(upsertion.iterations).unwrap_or_default();
            if iterations < MIN_ITERATIONS {
                return unacceptable("Too few iterations");
            }
            if upsertion.iterations > MAX_ITERATIONS {
                return unacceptable("Too many iterations");
            }
            // Kafka takes these, and then nobody can log in.
            if upsertion.salt.is_empty() || upsertion.salt.len() > MAX_SALT {
                return unacceptable("The salt must have 1 to 1024 bytes");
            }
            if upsertion.salted_password.is_empty() {
                return unacceptable("The salted password must not be empty");
            }
            // Whoever is there already may have another password.
            if credentials.scram_users().len() >= MOST_USERS && !credentials.has_scram(user) {
                return refuse(ErrorCode::POLICY_VIOLATION, "There are too many users");
            }
            let keys = ScramKeys::from_salted_password(hash, &upsertion.salted_password);
            let user: Arc<str> = user.into();
            credentials.set_scram(&user, ScramCredential { salt: upsertion.salt.to_vec(), iterations, keys });
            Ok(())
        }
    }
}

pub(crate) async fn describe(
    ctx: &RequestContext,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let image = ctx.image();
    let credentials = &image.credentials;
    let asked = request.users.filter(|users| !users.is_empty());
    let (names, twice) = match &asked {
        None => (
            credentials.scram_users().map(|user| StrBytes::from_string(user.to_string())).collect(),
            BTreeSet::new(),
        ),
        Some(users) => {
            let mut told = BTreeSet::new();
            let once = users.iter().filter(|user| told.insert(user.name.as_str()));
            let names: Vec<StrBytes> = once.map(|user| user.name.clone()).collect();
            (names, crate::admin::repeated(users.iter().map(|user| user.name.as_str())))
        }
    };
    let results = names.into_iter().map(|name| {
        let result = DescribeUserScramCredentialsResult::default().with_user(name.clone());
        let refused = |code: ErrorCode, why: &str| {
            let message = StrBytes::from_string(format!("{why}{}", name.as_str()));
            result.clone().with_error_code(code.0).with_error_message(Some(message))
        };
        if twice.contains(name.as_str()) {
            let why = "Cannot describe SCRAM credentials for the same user twice in a single request: ";
            return refused(ErrorCode::DUPLICATE_RESOURCE, why);
        }
        let known = [ScramHash::Sha256, ScramHash::Sha512]
            .into_iter()
            .filter_map(|hash| credentials.scram(&name, hash));
        let infos: Vec<CredentialInfo> = known
            .map(|credential| {
                CredentialInfo::default()
                    .with_mechanism(type_of(credential.keys.hash))
                    .with_iterations(i32::try_from(credential.iterations).unwrap_or(i32::MAX))
            })
            .collect();
        if infos.is_empty() {
            let why = "Attempt to describe a user credential that does not exist: ";
            return refused(ErrorCode::RESOURCE_NOT_FOUND, why);
        }
        result.with_error_message(None).with_credential_infos(infos)
    });
    DescribeUserScramCredentialsResponse::default().with_error_message(None).with_results(results.collect())
}

/// Kafka's number of a mechanism.
fn type_of(hash: ScramHash) -> i8 {
    match hash {
        ScramHash::Sha256 => 1,
        ScramHash::Sha512 => 2,
    }
}

fn hash_of(mechanism: i8) -> Option<ScramHash> {
    [ScramHash::Sha256, ScramHash::Sha512].into_iter().find(|hash| type_of(*hash) == mechanism)
}

#[cfg(test)]
mod tests {
    use kafka_wire::messages::describe_user_scram_credentials_request::UserName;
    use kafka_wire::sasl::scram::salted_password;

    use super::*;
    use crate::testing::Bench;

    fn upsertion(user: &str, mechanism: i8, iterations: i32) -> ScramCredentialUpsertion {
        let salted = salted_password(ScramHash::Sha256, "secret", b"salt", 4096);
        ScramCredentialUpsertion::default()
            .with_name(user.to_owned().into())
            .with_mechanism(mechanism)
            .with_iterations(iterations)
            .with_salt(b"salt"[..].into())
            .with_salted_password(salted.to_vec().into())
    }

    fn deletion(user: &str, mechanism: i8) -> ScramCredentialDeletion {
        ScramCredentialDeletion::default().with_name(user.to_owned().into()).with_mechanism(mechanism)
    }

    async fn alter(
        bench: &Bench,
        deletions: Vec<ScramCredentialDeletion>,
        upsertions: Vec<ScramCredentialUpsertion>,
    ) -> Vec<(String, ErrorCode, String)> {
        let request =
            AlterUserScramCredentialsRequest::default().with_deletions(deletions).with_upsertions(upsertions);
        let results = bench.call(1, 0, request).await.results.into_iter();
        let line = |result: AlterUserScramCredentialsResult| {
            let message = result.error_message.map(|message| message.to_string()).unwrap_or_default();
            (result.user.to_string(), ErrorCode(result.error_code), message)
        };
        results.map(line).collect()
    }

    async fn describe(bench: &Bench, users: &[&str]) -> Vec<(String, ErrorCode, Vec<(i8, i32)>)> {
        let users = users.iter().map(|user| UserName::default().with_name((*user).to_owned().into()));
        let request = DescribeUserScramCredentialsRequest::default().with_users(Some(users.collect()));
        // Any broker knows it at once.
        let results = bench.call(2, 0, request).await.results.into_iter();
        let line = |result: DescribeUserScramCredentialsResult| {
            let infos = result.credential_infos.iter().map(|info| (info.mechanism, info.iterations));
            (result.user.to_string(), ErrorCode(result.error_code), infos.collect())
        };
        results.map(line).collect()
    }

    #[tokio::test]
    async fn credentials_are_set_described_and_deleted() {
        let bench = Bench::new(2);
        let changed =
            alter(&bench, vec![], vec![upsertion("alice", 1, 4096), upsertion("bob", 2, 16_384)]).await;
        assert!(changed.iter().all(|(_, code, _)| code.is_ok()), "{changed:?}");
        alter(&bench, vec![], vec![upsertion("alice", 2, 8192)]).await;
        let (alice, bob) = (vec![(1, 4096), (2, 8192)], vec![(2, 16_384)]);
        let ok = ErrorCode::NONE;
        let both = [("alice".to_owned(), ok, alice), ("bob".to_owned(), ok, bob.clone())];
        assert_eq!(describe(&bench, &[]).await, both, "all of them");
        assert_eq!(describe(&bench, &["bob"]).await, [("bob".to_owned(), ok, bob)]);
        let not_found = ErrorCode::RESOURCE_NOT_FOUND;
        let asked = describe(&bench, &["bob", "eve", "bob"]).await;
        assert_eq!((asked[0].1, asked[1].1, asked.len()), (ErrorCode::DUPLICATE_RESOURCE, not_found, 2));
        let changed = alter(&bench, vec![deletion("alice", 1), deletion("bob", 1)], vec![]).await;
        let missing = "Attempt to delete a user credential that does not exist";
        assert_eq!(changed[1], ("bob".to_owned(), not_found, missing.to_owned()));
        assert_eq!(describe(&bench, &["alice"]).await[0].2, [(2, 8192)]);
    }

    #[tokio::test]
    async fn a_cluster_has_so_many_users_and_each_may_change_its_password() {
        let bench = Bench::new(2);
        let salted = salted_password(ScramHash::Sha256, "secret", b"salt", 4096).to_vec();
        let of = |user: String, mechanism| {
            ScramCredentialUpsertion::default()
                .with_name(user.into())
                .with_mechanism(mechanism)
                .with_iterations(4096)
                .with_salt(b"salt"[..].into())
                .with_salted_password(salted.clone().into())
        };
        for half in 0..2 {
            let users = (0..MOST_USERS / 2).map(|user| of(format!("{half}-{user}"), 1)).collect();
            assert!(alter(&bench, vec![], users).await.iter().all(|(_, code, _)| code.is_ok()));
        }
        let last = vec![of("0-0".into(), 1), of("1-1".into(), 2), of("one more".into(), 1)];
        let codes: Vec<ErrorCode> =
            alter(&bench, vec![], last).await.into_iter().map(|(_, code, _)| code).collect();
        assert_eq!(codes, [ErrorCode::NONE, ErrorCode::NONE, ErrorCode::POLICY_VIOLATION]);
    }

    #[tokio::test]
    async fn what_kafka_refuses_is_refused_in_its_words() {
        let bench = Bench::new(2);
        let unacceptable = ErrorCode::UNACCEPTABLE_CREDENTIAL;
        for (upsertion, code, message) in [
            (upsertion("", 1, 4096), unacceptable, "Username must not be empty"),
            (upsertion("a", 0, 4096), ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
            (upsertion("a", 3, 4096), ErrorCode::UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
            (upsertion("a", 1, 4095), unacceptable, "Too few iterations"),
            (upsertion("a", 1, -1), unacceptable, "Too few iterations"),
            (upsertion("a", 1, 16_385), unacceptable, "Too many iterations"),
            (upsertion("a", 1, i32::MAX), unacceptable, "Too many iterations"),
        ] {
            let user = upsertion.name.to_string();
            assert_eq!(alter(&bench, vec![], vec![upsertion]).await, [(user, code, message.to_owned())]);
        }
        let twice = vec![upsertion("a", 1, 4096), upsertion("b", 1, 4096), upsertion("a", 2, 4096)];
        let changed = alter(&bench, vec![deletion("b", 1)], twice).await;
        assert_eq!(changed.len(), 2);
        assert!(changed.iter().all(|(_, code, _)| *code == ErrorCode::DUPLICATE_RESOURCE), "{changed:?}");
        assert_eq!(describe(&bench, &[]).await, []);
    }
}
