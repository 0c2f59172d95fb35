//! Who runs when: clients interleaved, their order shuffled in every round, and how long it will all take.

use crate::building::Built;
use crate::clients::{Client, EMPTY, OURS_AGAIN};
use crate::outcome::FailureKind;
use crate::record::Run;
use crate::scenario::{Codec, Group, Mode, Scenario};

/// A client that needs a long warm-up runs in one round of so many: it brings that warm-up with it each time.
const SLOW_EVERY: u32 = 3;
/// After so many failures in a scenario a client is spared the rest of it.
const MOST_FAILURES: usize = 2;

/// Whether a client has a part in a scenario at all.
fn takes_part(client: &Client, scenario: &Scenario) -> bool {
    match client.name {
        // What rests on no goal needs no control, and takes less time without.
        OURS_AGAIN => scenario.group == Group::Goals,
        EMPTY => matches!(scenario.mode, Mode::Produce | Mode::Latency),
        "ours-zstd-rust" => scenario.codec == Codec::Zstd,
        _ => true,
    }
}

/// Whether a client has a part in that round of a scenario.
pub fn runs_in(client: &Client, scenario: &Scenario, round: u32) -> bool {
    let warms_up = !matches!(scenario.mode, Mode::Start | Mode::Memory);
    let every_round = !client.slow || !warms_up || scenario.rounds == 1;
    takes_part(client, scenario) && (every_round || round % SLOW_EVERY == 1)
}

/// Whether a client need not go on with a scenario, of which these are its runs: it cannot do it, or has failed often enough. What
/// failed while others disturbed it is no sign.
pub fn is_spared<'r>(runs: impl Iterator<Item = &'r Run>) -> bool {
    let failures = runs.filter(|run| run.void.is_none()).filter_map(|run| run.failure.as_ref());
    let kinds: Vec<FailureKind> = failures.map(|failure| failure.kind).collect();
    kinds.contains(&FailureKind::Unsupported) || kinds.len() >= MOST_FAILURES
}

/// A client's warm-up in a scenario, in seconds.
pub fn warmup(client: &Client, scenario: &Scenario) -> f64 {
    if client.slow { scenario.slow_warmup } else { scenario.warmup }
}

/// The clients of one round, in the order in which they run.
pub fn round<'a>(
    clients: &'a [Built],
    scenario: &Scenario,
    round: u32,
    random: &mut fastrand::Rng,
) -> Vec<&'a Built> {
    let ready = clients.iter().filter(|built| built.program.is_ok());
    let mut order: Vec<&Built> = ready.filter(|built| runs_in(built.client, scenario, round)).collect();
    random.shuffle(&mut order);
    order
}

/// How long the scenarios are expected to take, in seconds.
pub fn expected_seconds(clients: &[Built], scenarios: &[Scenario]) -> f64 {
    // Only the number of clients matters here, not their order.
    let mut random = fastrand::Rng::with_seed(0);
    let mut of = |scenario: &Scenario| -> f64 {
        let rounds = 0..scenario.rounds;
        let runs = rounds.flat_map(|index| round(clients, scenario, index, &mut random));
        runs.map(|built| scenario.expected_seconds(warmup(built.client, scenario))).sum()
    };
    scenarios.iter().map(&mut of).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::PathBuf;

    use super::*;
    use crate::clients::CLIENTS;
    use crate::outcome::Failure;
    use crate::testing::{run, scenario};

    fn built() -> Vec<Built> {
        CLIENTS
            .iter()
            .map(|client| Built { client, program: Ok(PathBuf::from("/bin/true").into()) })
            .collect()
    }

    fn names(order: &[&Built]) -> Vec<&'static str> {
        order.iter().map(|built| built.client.name).collect()
    }

    #[test]
    fn the_order_differs_between_rounds_and_follows_from_the_seed() {
        let (clients, scenario) = (built(), scenario("produce-real"));
        let orders = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..8).map(|index| names(&round(&clients, &scenario, index, &mut random))).collect::<Vec<_>>()
        };
        assert_eq!(orders(5), orders(5));
        assert!(orders(5).iter().collect::<HashSet<_>>().len() > 6);
    }

    #[test]
    fn everyone_runs_once_a_round_and_java_in_one_of_three() {
        let (clients, scenario) = (built(), scenario("produce-real"));
        let mut random = fastrand::Rng::with_seed(1);
        let mut java = 0;
        for index in 0..8 {
            let order = names(&round(&clients, &scenario, index, &mut random));
            assert_eq!(order.iter().collect::<HashSet<_>>().len(), order.len());
            assert!(order.contains(&"ours-control") && order.contains(&"franz-go"));
            assert!(!order.contains(&"ours-zstd-rust"));
            java += usize::from(order.contains(&"java"));
        }
        assert_eq!(java, 3);
    }

    #[test]
    fn java_runs_in_every_round_where_there_is_no_warm_up() {
        let java = crate::clients::find("java").unwrap();
        let rounds = |name| (0..8).filter(|&round| runs_in(java, &scenario(name), round)).count();
        assert_eq!(["start", "memory", "latency-linger-0"].map(rounds), [8, 8, 3]);
    }

    #[test]
    fn who_cannot_do_it_or_failed_twice_is_spared() {
        let failed = |failure| Run { failure: Some(failure), ..run("start", "krafka", 0, 1.0) };
        let hung = failed("hung".into());
        assert!(!is_spared([&hung, &run("start", "krafka", 1, 1.0)].into_iter()));
        assert!(is_spared([&hung, &hung].into_iter()));
        assert!(is_spared([&failed(Failure::unsupported("zstd"))].into_iter()));
        let disturbed = Run { void: Some("others used 1.0 cores".into()), ..hung.clone() };
        assert!(!is_spared([&hung, &disturbed, &disturbed].into_iter()));
    }

    #[test]
    fn a_client_that_could_not_be_built_is_left_out() {
        let mut clients = built();
        clients.retain(|built| built.client.name != "krafka");
        clients[0].program = Err("no compiler".into());
        let mut random = fastrand::Rng::with_seed(1);
        let order = names(&round(&clients, &scenario("consume-real"), 0, &mut random));
        assert!(!order.contains(&"ours") && !order.contains(&"krafka") && !order.contains(&"control"));
    }

    #[test]
    fn the_whole_takes_about_an_hour_or_two() {
        let all = crate::scenarios::all(crate::scenarios::Effort { rounds: 8, seconds: 1.5, quick: false });
        let hours = expected_seconds(&built(), &all) / 3600.0;
        assert!((0.8..2.5).contains(&hours), "{hours}");
    }
}
