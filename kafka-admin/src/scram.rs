//! The SCRAM credentials of users (KIP-554). A password never leaves this process: brokers get what is derived from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_client::auth::Secret;
use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_client::raw::wire::messages::describe_user_scram_credentials_request::UserName;
use kafka_client::raw::wire::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_client::raw::wire::messages::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};
use kafka_client::raw::wire::sasl::scram::{
    MAX_ITERATIONS, MIN_ITERATIONS, ScramHash, salted_password_while,
};
use kafka_client::{Api, Error, ErrorCode, Result};
use tokio::task::spawn_blocking;

use crate::admin::{Admin, Answers, Outcomes, controller_may_change_its_mind, outcome};
use crate::topics::text;

/// Bytes of a salt of our making: more than RFC 7677 asks for.
const SALT: usize = 32;

/// A SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ScramMechanism {
    /// SCRAM-SHA-256
    Sha256,
    /// SCRAM-SHA-512
    Sha512,
    /// One that this client does not know.
    Unknown,
}

impl ScramMechanism {
    /// Its name in SASL, such as `SCRAM-SHA-256`.
    pub fn name(self) -> &'static str {
        self.hash().map_or("UNKNOWN", ScramHash::mechanism)
    }

    fn hash(self) -> Option<ScramHash> {
        match self {
            Self::Sha256 => Some(ScramHash::Sha256),
            Self::Sha512 => Some(ScramHash::Sha512),
            Self::Unknown => None,
        }
    }

    fn code(self) -> i8 {
        match self {
            Self::Unknown => 0,
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Sha256,
            2 => Self::Sha512,
            _ => Self::Unknown,
        }
    }
}

/// What brokers tell of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ScramCredentialInfo {
    /// Its mechanism.
    pub mechanism: ScramMechanism,
    /// How many iterations stretch the password.
    pub iterations: i32,
}

/// A change to the credentials of a user.
#[derive(Clone, Debug)]
#[must_use]
pub struct UserScramCredentialAlteration {
    user: String,
    mechanism: ScramMechanism,
    /// `None` deletes the credential.
    upsertion: Option<Upsertion>,
}

#[derive(Clone, Debug)]
struct Upsertion {
    password: Secret,
    iterations: u32,
    salt: Option<Vec<u8>>,
}

impl UserScramCredentialAlteration {
    /// Gives the user this password under a mechanism, stretched by 4,096 iterations, whether or not there is one yet.
    pub fn upsert(user: impl Into<String>, mechanism: ScramMechanism, password: impl Into<Secret>) -> Self {
        let upsertion = Upsertion { password: password.into(), iterations: MIN_ITERATIONS, salt: None };
        Self { user: user.into(), mechanism, upsertion: Some(upsertion) }
    }

    /// Takes the user's credential under a mechanism away.
    pub fn delete(user: impl Into<String>, mechanism: ScramMechanism) -> Self {
        Self { user: user.into(), mechanism, upsertion: None }
    }

    /// How many iterations stretch the password: 4,096 by default and at least; brokers take 16,384 at most. Each client
    /// works them off at each connection.
    pub fn iterations(mut self, iterations: u32) -> Self {
        if let Some(upsertion) = &mut self.upsertion {
            upsertion.iterations = iterations;
        }
        self
    }

    /// The salt; 32 random bytes by default.
    pub fn salt(mut self, salt: impl Into<Vec<u8>>) -> Self {
        if let Some(upsertion) = &mut self.upsertion {
            upsertion.salt = Some(salt.into());
        }
        self
    }

    /// Why no broker could take it.
    fn fault(&self) -> Option<(ErrorCode, String)> {
        let unacceptable = |what: String| Some((ErrorCode::UNACCEPTABLE_CREDENTIAL, what));
        if self.user.is_empty() {
            return unacceptable("the user has no name".into());
        }
        if self.mechanism == ScramMechanism::Unknown {
            return Some((ErrorCode::UNSUPPORTED_SASL_MECHANISM, "the mechanism is not known".into()));
        }
        let upsertion = self.upsertion.as_ref()?;
        if upsertion.password.expose().is_empty() {
            return unacceptable("the password is empty".into());
        }
        let bounds = MIN_ITERATIONS..=MAX_ITERATIONS;
        if !bounds.contains(&upsertion.iterations) {
            let given = upsertion.iterations;
            return unacceptable(format!("{given} iterations are not {MIN_ITERATIONS} to {MAX_ITERATIONS}"));
        }
        None
    }
}

/// An alteration with its password stretched.
enum Prepared {
    Upsertion(ScramCredentialUpsertion),
    Deletion(ScramCredentialDeletion),
}

impl Prepared {
    fn user(&self) -> &str {
        match self {
            Self::Upsertion(upsertion) => &upsertion.name,
            Self::Deletion(deletion) => &deletion.name,
        }
    }

    /// `None` once nobody wants it any more.
    fn make(alteration: UserScramCredentialAlteration, wanted: impl FnMut() -> bool) -> Option<Result<Self>> {
        let (name, mechanism) = (text(&alteration.user), alteration.mechanism.code());
        let (Some(upsertion), Some(hash)) = (alteration.upsertion, alteration.mechanism.hash()) else {
            let deletion = ScramCredentialDeletion::default().with_name(name).with_mechanism(mechanism);
            return Some(Ok(Self::Deletion(deletion)));
        };
        let salt = match upsertion.salt.map_or_else(random_salt, Ok) {
            Ok(salt) => salt,
            Err(error) => return Some(Err(error)),
        };
        let iterations = upsertion.iterations;
        let salted = salted_password_while(hash, upsertion.password.expose(), &salt, iterations, wanted)?;
        let upsertion = ScramCredentialUpsertion::default()
            .with_name(name)
            .with_mechanism(mechanism)
            .with_iterations(i32::try_from(iterations).unwrap_or(i32::MAX))
            .with_salt(salt.into())
            // Wiped when the last request that holds it is dropped.
            .with_salted_password(Bytes::from_owner(salted));
        Some(Ok(Self::Upsertion(upsertion)))
    }
}

fn random_salt() -> Result<Vec<u8>> {
    let mut salt = vec![0; SALT];
    getrandom::fill(&mut salt).map_err(|error| {
        Error::config("salt", "", format!("give one: this system has no randomness ({error})"))
    })?;
    Ok(salt)
}

impl Admin {
    /// Describes the SCRAM credentials of users. Needs Kafka 2.7.
    ///
    /// # Errors
    /// No user was answered for. What is wrong with one user is in its result: `RESOURCE_NOT_FOUND` for one without
    /// credentials.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_user_scram_credentials<S: Into<String>>(
        &self,
        users: impl IntoIterator<Item = S>,
    ) -> Result<Outcomes<String, Vec<ScramCredentialInfo>>> {
        let users = users.into_iter().map(Into::into).collect();
        self.each(
            Api::DescribeUserScramCredentials,
            users,
            controller_may_change_its_mind,
            move |open, _| async move {
                let answers = self.scram_credentials(Some(open)).await?;
                Ok(answers.into_iter().collect::<Answers<_, _>>())
            },
        )
        .await
    }

    /// Describes the SCRAM credentials of all users that have some, by name. Needs Kafka 2.7.
    ///
    /// # Errors
    /// No broker answered, or it refused. What is wrong with one user is in its result.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_all_user_scram_credentials(
        &self,
    ) -> Result<Outcomes<String, Vec<ScramCredentialInfo>>> {
        let mut answers = self.scram_credentials(None).await?;
        answers.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(answers)
    }

    async fn scram_credentials(
        &self,
        users: Option<Vec<String>>,
    ) -> Result<Outcomes<String, Vec<ScramCredentialInfo>>> {
        let users = users.map(|users| {
            users.iter().map(|user| UserName::default().with_name(text(user))).collect::<Vec<_>>()
        });
        let request = DescribeUserScramCredentialsRequest::default().with_users(users);
        // What may pass leads to another attempt here, without its message.
        let passing = |answer: &DescribeUserScramCredentialsResponse| {
            Some(ErrorCode(answer.error_code)).filter(|code| code.is_retriable()).unwrap_or(ErrorCode::NONE)
        };
        let answer = self.request(Route::Any).send_checked(|_| Ok(request.clone()), passing).await?;
        let (node, described) = (answer.node, answer.response);
        let check = |code, message: &Option<_>| {
            outcome(code, Api::DescribeUserScramCredentials, node, message.as_ref())
        };
        check(described.error_code, &described.error_message)?;
        let result = |result: DescribeUserScramCredentialsResult| {
            let outcome = check(result.error_code, &result.error_message);
            let info = |info: CredentialInfo| ScramCredentialInfo {
                mechanism: ScramMechanism::from_code(info.mechanism),
                iterations: info.iterations,
            };
            let infos = result.credential_infos.into_iter().map(info).collect();
            (result.user.to_string(), outcome.map(|()| infos))
        };
        Ok(described.results.into_iter().map(result).collect())
    }

    /// Sets and deletes the SCRAM credentials of users. Passwords are stretched here, on a thread for blocking work, and
    /// only the result is sent: it is as good as the password, so use a connection with TLS. Every broker may take a moment to
    /// know of it. Kafka lets no user log in whose name is not ASCII. Needs Kafka 2.7.
    ///
    /// # Errors
    /// No user was answered for. What is wrong with one user is in its result: `UNACCEPTABLE_CREDENTIAL`,
    /// `RESOURCE_NOT_FOUND` for one to be deleted that is not there, `DUPLICATE_RESOURCE` for a user who is named twice: a second
    /// mechanism takes a second call.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn alter_user_scram_credentials(
        &self,
        alterations: impl IntoIterator<Item = UserScramCredentialAlteration>,
    ) -> Result<Outcomes<String, ()>> {
        let api = Api::AlterUserScramCredentials;
        let alterations: Vec<UserScramCredentialAlteration> = alterations.into_iter().collect();
        let mut distinct = HashSet::new();
        let users = alterations.iter().map(|alteration| alteration.user.clone());
        let users: Vec<String> = users.filter(|user| distinct.insert(user.clone())).collect();
        let mut faults: Answers<String, ()> = HashMap::new();
        for alteration in &alterations {
            if let Some((code, message)) = alteration.fault() {
                let error = Error::broker(code, api, None, Some(message));
                faults.insert(alteration.user.clone(), Err(error));
            }
        }
        let sound = alterations.into_iter().filter(|alteration| !faults.contains_key(&alteration.user));
        let (prepared, faults) = (&prepare(sound.collect()).await?, &faults);
        self.each(api, users, controller_may_change_its_mind, move |open, deadline| async move {
            let (hopeless, open): (Vec<String>, Vec<String>) =
                open.into_iter().partition(|user| faults.contains_key(user));
            let hopeless = hopeless.into_iter().filter_map(|user| faults.get_key_value(&user));
            let mut answers: Answers<String, ()> =
                hopeless.map(|(user, fault)| (user.clone(), fault.clone())).collect();
            if open.is_empty() {
                return Ok(answers);
            }
            let open: HashSet<String> = open.into_iter().collect();
            let mut request = AlterUserScramCredentialsRequest::default();
            for one in prepared.iter().filter(|one| open.contains(one.user())) {
                match one {
                    Prepared::Upsertion(upsertion) => request.upsertions.push(upsertion.clone()),
                    Prepared::Deletion(deletion) => request.deletions.push(deletion.clone()),
                }
            }
            let call = self.client().request(Route::Controller).deadline(deadline);
            let answer = call.send(|_| Ok(request.clone())).await?;
            answers.extend(answer.response.results.into_iter().map(|result| {
                let message = result.error_message.as_ref();
                (result.user.to_string(), outcome(result.error_code, api, answer.node, message))
            }));
            Ok(answers)
        })
        .await
    }
}

/// Stretches all passwords, off the reactor. Should the caller not wait for it, it stops.
async fn prepare(alterations: Vec<UserScramCredentialAlteration>) -> Result<Vec<Prepared>> {
    let waiting = Arc::new(());
    let awaited = Arc::downgrade(&waiting);
    let work = move || {
        let wanted = || awaited.strong_count() > 0;
        alterations.into_iter().map_while(|alteration| Prepared::make(alteration, wanted)).collect()
    };
    let prepared = spawn_blocking(work).await;
    drop(waiting);
    // The runtime is shutting down, or else it would have been done.
    prepared.unwrap_or_else(|_| Err(Error::closed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_salted_password_is_that_of_rfc_7677_and_nothing_shows_the_password() {
        let salt = *b"[m\x99h\x9d\x12\x35\x8e\xec\xa0K\x14\x126\xfa\x81";
        let alteration =
            UserScramCredentialAlteration::upsert("user", ScramMechanism::Sha256, "pencil").salt(salt);
        assert!(!format!("{alteration:?}").contains("pencil"));
        let prepared = prepare(vec![alteration]).await.unwrap();
        let [Prepared::Upsertion(upsertion)] = &prepared[..] else { panic!("one upsertion") };
        let salted = u128::from_be_bytes(upsertion.salted_password[..16].try_into().unwrap());
        assert_eq!(salted, 0xc4a4_9510_323a_b4f9_52ca_c1fa_9944_1939);
        assert_eq!(upsertion.salted_password.len(), 32);
        assert_eq!(upsertion.iterations, 4096);
        assert_eq!(&upsertion.salt[..], salt);
    }

    #[tokio::test]
    async fn each_upsertion_without_a_salt_gets_one_of_its_own() {
        let one = || UserScramCredentialAlteration::upsert("user", ScramMechanism::Sha512, "pencil");
        let prepared = prepare(vec![one(), one()]).await.unwrap();
        let salts: HashSet<&[u8]> = prepared
            .iter()
            .map(|one| match one {
                Prepared::Upsertion(upsertion) => &upsertion.salt[..],
                Prepared::Deletion(_) => &[],
            })
            .collect();
        assert_eq!(salts.len(), 2);
        assert!(salts.iter().all(|salt| salt.len() == SALT));
    }

    #[test]
    fn what_no_broker_takes_is_found_before_the_password_is_stretched() {
        let upsert = UserScramCredentialAlteration::upsert;
        let code = |alteration: UserScramCredentialAlteration| alteration.fault().map(|(code, _)| code);
        let unacceptable = Some(ErrorCode::UNACCEPTABLE_CREDENTIAL);
        assert_eq!(code(upsert("", ScramMechanism::Sha256, "pencil")), unacceptable);
        assert_eq!(code(upsert("user", ScramMechanism::Sha256, "")), unacceptable);
        assert_eq!(code(upsert("user", ScramMechanism::Sha256, "pencil").iterations(4095)), unacceptable);
        assert_eq!(code(upsert("user", ScramMechanism::Sha256, "pencil").iterations(u32::MAX)), unacceptable);
        let unknown = UserScramCredentialAlteration::delete("user", ScramMechanism::Unknown);
        assert_eq!(code(unknown), Some(ErrorCode::UNSUPPORTED_SASL_MECHANISM));
        assert_eq!(code(upsert("user", ScramMechanism::Sha256, "pencil")), None);
        assert_eq!(code(UserScramCredentialAlteration::delete("user", ScramMechanism::Sha512)), None);
    }
}
