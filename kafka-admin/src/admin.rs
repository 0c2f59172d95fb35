//! The handle to administer a cluster, and what its operations share: they ask again for what may still succeed, and
//! for nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use futures_util::future::join_all;
use kafka_client::raw::wire::messages::StrBytes;
use kafka_client::raw::{Backoff, Call, FOREVER, Route};
use kafka_client::{Api, Client, Error, ErrorCode, ErrorKind, NodeId, Result, TopicPartition};
use tokio::time::{Instant, sleep, timeout};

/// How long a topic or partition that the cluster does not know is waited for: if it was just created, some brokers
/// learn of it later than others.
const PROPAGATION: Duration = Duration::from_secs(5);

/// Administers a cluster. Clones, and everything else on the same [`Client`], share its connections.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
    timeout: Duration,
}

/// A result for each of the things that an operation named, in the same order.
pub type Outcomes<K, T> = Vec<(K, Result<T>)>;

/// What one attempt brought for each thing.
pub(crate) type Answers<K, T> = HashMap<K, Result<T>>;

impl Admin {
    /// Administers the client's cluster.
    pub fn new(client: &Client) -> Self {
        Self { client: client.clone(), timeout: client.config().default_api_timeout }
    }

    /// How long an operation may take with all its attempts. The client's `default.api.timeout.ms`, 60 s, by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(FOREVER);
        self
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// A request that is tried again within this operation's time.
    pub(crate) fn request(&self, route: Route) -> Call<'_> {
        self.client.request(route).deadline(self.deadline())
    }

    /// How long a broker may take to carry something out, as requests say it.
    pub(crate) fn broker_timeout_ms(&self) -> i32 {
        let timeout = self.client.config().request_timeout.min(self.timeout);
        i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Has `attempt` made for `keys` with requests of `api`, and again for those whose failure `may_pass`, until each has
    /// its result or time runs out.
    ///
    /// # Errors
    /// The first attempt failed as a whole. A later failure becomes the result of what was still open.
    pub(crate) async fn each<K, T, F>(
        &self,
        api: Api,
        keys: Vec<K>,
        may_pass: fn(&Error) -> bool,
        attempt: impl Fn(Vec<K>, Instant) -> F,
    ) -> Result<Outcomes<K, T>>
    where
        K: Clone + Eq + Hash,
        T: Clone,
        F: Future<Output = Result<Answers<K, T>>>,
    {
        let config = self.client.config();
        let mut backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max);
        let mut random = config.random(3);
        let start = Instant::now();
        let deadline = start + self.timeout;
        let mut results: Answers<K, T> = HashMap::with_capacity(keys.len());
        let mut distinct = HashSet::new();
        let mut open: Vec<K> = keys.iter().filter(|key| distinct.insert(*key)).cloned().collect();
        while !open.is_empty() {
            let mut refreshed = self.client.refresher().subscribe();
            let mut answers = match attempt(open.clone(), deadline).await {
                Ok(answers) => answers,
                Err(error) if results.is_empty() => return Err(error),
                Err(error) => open.iter().map(|key| (key.clone(), Err(error.clone()))).collect(),
            };
            for key in &open {
                results.insert(key.clone(), answers.remove(key).unwrap_or_else(|| left_out(api)));
            }
            let waits_for_unknown = start.elapsed() < PROPAGATION;
            open.retain(|key| match results.get(key) {
                Some(Err(error)) => may_pass(error) && (waits_for_unknown || !is_unknown(error)),
                _ => false,
            });
            let delay = backoff.next(&mut random);
            if open.is_empty() || Instant::now() + delay >= deadline {
                break;
            }
            let codes: Vec<ErrorCode> =
                open.iter().filter_map(|key| results.get(key)?.as_ref().err()?.error_code()).collect();
            let controller_moved = codes.contains(&ErrorCode::NOT_CONTROLLER);
            if controller_moved {
                self.client.forget(&Route::Controller, None);
            }
            sleep(delay).await;
            if controller_moved || codes.into_iter().any(ErrorCode::refreshes_metadata) {
                // A refresh is under way; without it the same broker would be asked and say the same. Should it take
                // long, the next attempt asks for it again.
                let _ = timeout(config.retry_backoff_max, refreshed.changed()).await;
            }
        }
        let result = |key: K| {
            let result = results.get(&key).cloned().unwrap_or_else(|| left_out(api));
            (key, result)
        };
        Ok(keys.into_iter().map(result).collect())
    }

    /// Finds the broker for each key, and has all the brokers asked at once, each for its keys. A key that an answer
    /// leaves out is left out here.
    pub(crate) async fn fan_out<K, T, F>(
        &self,
        keys: Vec<K>,
        deadline: Instant,
        route: impl Fn(&K) -> Route,
        ask: impl Fn(NodeId, Vec<K>) -> F,
    ) -> Answers<K, T>
    where
        K: Clone + Eq + Hash,
        F: Future<Output = Result<Answers<K, T>>>,
    {
        let routes: Vec<Route> = keys.iter().map(&route).collect();
        let places = join_all(routes.iter().map(|route| {
            let until = match route {
                Route::Leader(_) => deadline.min(Instant::now() + PROPAGATION),
                _ => deadline,
            };
            self.client.resolve(route, until)
        }))
        .await;
        let mut answers = HashMap::with_capacity(keys.len());
        let mut by_node: BTreeMap<NodeId, Vec<K>> = BTreeMap::new();
        for (key, place) in keys.into_iter().zip(places) {
            match place {
                Ok(node) => by_node.entry(node).or_default().push(key),
                Err(error) => {
                    answers.insert(key, Err(error));
                }
            }
        }
        let asked = join_all(by_node.iter().map(|(node, keys)| ask(*node, keys.clone()))).await;
        for ((node, keys), mut outcome) in by_node.into_iter().zip(asked) {
            for key in keys {
                let answer = match &mut outcome {
                    Ok(answers) => answers.remove(&key),
                    Err(error) => Some(Err(error.clone())),
                };
                let Some(answer) = answer else { continue };
                if answer.as_ref().is_err_and(is_about_the_place) {
                    self.client.forget(&route(&key), node);
                }
                answers.insert(key, answer);
            }
        }
        answers
    }
}

/// The numbers of the partitions of each topic, in order, each once.
pub(crate) fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().insert(partition.partition);
    }
    topics.into_iter().map(|(topic, ids)| (topic, ids.into_iter().collect())).collect()
}

/// What to make of an answer that says nothing about a thing it was asked for.
fn left_out<T>(api: Api) -> Result<T> {
    let message = "the answer leaves this out".to_owned();
    Err(Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, api, None, Some(message)))
}

/// The result that an error code and its message stand for.
pub(crate) fn outcome(code: i16, api: Api, node: NodeId, message: Option<&StrBytes>) -> Result<()> {
    let message = message.map(|message| message.to_string());
    ErrorCode(code).check().map_err(|code| Error::broker(code, api, Some(node), message))
}

fn is_unknown(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::UnknownTopic(_))
        || matches!(
            error.error_code(),
            Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID)
        )
}

/// Whether an error shows that another broker should have been asked.
fn is_about_the_place(error: &Error) -> bool {
    match error.error_code() {
        Some(ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE) => true,
        Some(code) => code.refreshes_metadata(),
        None => error.is_transport(),
    }
}

/// What the controller says only for the moment.
pub(crate) fn controller_may_change_its_mind(error: &Error) -> bool {
    matches!(error.error_code(), Some(ErrorCode::NOT_CONTROLLER | ErrorCode::THROTTLING_QUOTA_EXCEEDED))
}

/// What a leader or a coordinator says only for the moment, or because it is none any more.
pub(crate) fn place_may_change(error: &Error) -> bool {
    error.is_retriable()
}
