//! Which session tells of a scenario: the newest of those that tell most.

use std::collections::BTreeMap;

use crate::clients::{OURS, find};
use crate::record::{Recorded, Run, Session};
use crate::schedule::{is_spared, runs_in};

/// The runs of one scenario in the session that tells most about it.
#[derive(Clone, Debug)]
pub struct Latest<'a> {
    /// The session.
    pub session: &'a Session,
    /// The runs.
    pub runs: Vec<&'a Run>,
}

/// How much a session tells of a scenario, from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// It was only a check.
    Check,
    /// Clients or rounds are missing: they were not asked for, or the session was cut off.
    Part,
    /// Everyone who could be built ran in every round.
    Full,
}

impl Latest<'_> {
    fn worth(&self) -> Worth {
        if self.session.quick {
            Worth::Check
        } else if self.session.all_clients && self.has_all_rounds() {
            Worth::Full
        } else {
            Worth::Part
        }
    }

    fn has_all_rounds(&self) -> bool {
        let Some(scenario) = self.runs.first().map(|run| &run.scenario) else { return false };
        let built = self.session.clients.iter().filter(|participant| participant.left_out.is_none());
        built.filter_map(|participant| find(&participant.name)).all(|client| {
            let runs = || self.runs.iter().copied().filter(|run| run.client == client.name);
            let mut rounds = (0..scenario.rounds).filter(|&round| runs_in(client, scenario, round));
            // A scenario that ours was spared tells nothing, whoever else was measured.
            client.name != OURS && is_spared(runs())
                || rounds.all(|round| runs().any(|run| run.round == round))
        })
    }
}

/// For each scenario the newest session in which everyone has every round; failing that, the newest with a part of them; failing
/// that, the newest check.
pub fn latest_by_scenario(sessions: &[Recorded]) -> BTreeMap<&str, Latest<'_>> {
    let mut latest: BTreeMap<&str, Latest<'_>> = BTreeMap::new();
    for recorded in sessions {
        let mut of_session: BTreeMap<&str, Latest<'_>> = BTreeMap::new();
        for run in &recorded.runs {
            let entry = of_session.entry(run.scenario.name.as_str());
            entry.or_insert_with(|| Latest { session: &recorded.session, runs: Vec::new() }).runs.push(run);
        }
        let rank = |latest: &Latest<'_>| (latest.worth(), latest.session.id.clone());
        for (name, found) in of_session {
            if latest.get(name).is_none_or(|known| rank(known) <= rank(&found)) {
                latest.insert(name, found);
            }
        }
    }
    latest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;
    use crate::testing::{run, session};

    /// Ours in all rounds of `consume-null`, and krafka in some.
    fn recorded(id: &str, krafka: u32) -> Recorded {
        let ours = (0..8).map(|round| run("consume-null", "ours", round, 1.0));
        let runs = ours.chain((0..krafka).map(|round| run("consume-null", "krafka", round, 1.0))).collect();
        let mut session = session(id);
        session.clients[1].name = "krafka".into();
        session.clients[1].left_out = None;
        Recorded { session, runs }
    }

    fn told_by(sessions: &[Recorded]) -> String {
        latest_by_scenario(sessions)["consume-null"].session.id.clone()
    }

    #[test]
    fn a_scenario_is_told_by_its_newest_full_session() {
        let mut some_clients = recorded("3", 8);
        some_clients.session.all_clients = false;
        let mut quick = recorded("5", 8);
        quick.session.quick = true;
        let sessions = [recorded("1", 8), recorded("2", 8), some_clients, recorded("4", 7), quick];
        assert_eq!(told_by(&sessions), "2");
        assert_eq!(told_by(&sessions[2..]), "4");
        assert_eq!(told_by(&sessions[4..]), "5");
        assert_eq!(latest_by_scenario(&sessions)["consume-null"].runs.len(), 16);
    }

    #[test]
    fn who_was_not_built_or_was_spared_is_not_missing() {
        let full = recorded("1", 8);
        let mut left_out = recorded("2", 0);
        left_out.session.clients[1].left_out = Some("no compiler".into());
        assert_eq!(told_by(&[full.clone(), left_out]), "2");
        let mut spared = recorded("2", 1);
        spared.runs[8].failure = Some(Failure::unsupported("zstd"));
        assert_eq!(told_by(&[full.clone(), spared]), "2");
        // Without a broker everyone is spared, and nothing is told.
        let mut without = recorded("2", 2);
        without.runs.retain(|run| run.round < 2);
        without.runs.iter_mut().for_each(|run| run.failure = Some("no broker".into()));
        assert_eq!(told_by(&[full, without]), "1");
    }
}
