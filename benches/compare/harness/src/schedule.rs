//! Who runs when: clients interleaved, their order shuffled in every round, and how long it will all take.

use crate::building::Built;
use crate::clients::{Client, EMPTY, OURS_AGAIN};
use crate::scenario::{Codec, Group, Mode, Scenario};

/// A client that needs a long warm-up runs in one round of so many: it brings that warm-up with it each time.
const SLOW_EVERY: u32 = 3;

/// Whether a client has a part in a scenario at all.
pub fn takes_part(client: &Client, scenario: &Scenario) -> bool {
    match client.name {
        // What rests on no goal needs no control, and takes less time without.
        OURS_AGAIN => scenario.group == Group::Goals,
        EMPTY => matches!(scenario.mode, Mode::Produce | Mode::Latency),
        "ours-zstd-rust" => scenario.codec == Codec::Zstd,
        _ => true,
    }
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
    let its_turn = |client: &Client| !client.slow || round % SLOW_EVERY == 1 || scenario.rounds == 1;
    let ready = clients.iter().filter(|built| built.program.is_ok());
    let mut order: Vec<&Built> =
        ready.filter(|built| takes_part(built.client, scenario) && its_turn(built.client)).collect();
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
    use crate::testing::scenario;

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
