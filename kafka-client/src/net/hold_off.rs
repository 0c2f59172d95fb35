//! Decides how long a refusal stands in for the next attempt: who tries refused credentials again and again locks the
//! account out.

use std::collections::HashMap;
use std::time::Duration;

use kafka_wire::address::NodeAddress;
use kafka_wire::error_code::ErrorCode;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// How long the first refusal stands.
const FIRST: Duration = Duration::from_secs(1);
/// How much longer each further one stands.
const GROWTH: u32 = 5;
/// How long a refusal stands at the most.
const LONGEST: Duration = Duration::from_secs(300);

/// Whom a failure concerns.
#[derive(Debug, PartialEq, Eq)]
enum Scope {
    /// All brokers: they share their users.
    Client,
    /// The broker at this address.
    Address,
}

/// The refusals that a client remembers.
#[derive(Debug, Default)]
pub(crate) struct HoldOff {
    client: Option<Refusal>,
    addresses: HashMap<NodeAddress, Refusal>,
}

#[derive(Debug)]
struct Refusal {
    error: Error,
    at: Instant,
    lasts: Duration,
    until: Instant,
    /// It has lapsed, and an attempt is under way to see whether it would be repeated.
    claimed: bool,
}

impl HoldOff {
    /// What stands in for an attempt at `address`; nothing if one may be made.
    pub(crate) fn refusal(&self, address: &NodeAddress, now: Instant) -> Option<Error> {
        self.client_refusal(now).or_else(|| standing(self.addresses.get(address), now))
    }

    /// What stands in for an attempt anywhere.
    pub(crate) fn client_refusal(&self, now: Instant) -> Option<Error> {
        standing(self.client.as_ref(), now)
    }

    /// As [`refusal`](Self::refusal). If there is none any more, only the one who asks makes an attempt: for the others the
    /// old refusal stands `at_most` so long, or until that attempt has ended.
    pub(crate) fn claim(&mut self, address: &NodeAddress, now: Instant, at_most: Duration) -> Option<Error> {
        let refusal = self.refusal(address, now);
        if refusal.is_none() {
            for lapsed in self.client.iter_mut().chain(self.addresses.get_mut(address)) {
                lapsed.until = now + at_most;
                lapsed.claimed = true;
            }
        }
        refusal
    }

    /// An attempt that began then has failed with this; says whether that is a refusal, which stands from now on.
    pub(crate) fn failed(
        &mut self,
        address: &NodeAddress,
        error: &Error,
        began: Instant,
        now: Instant,
    ) -> bool {
        self.ended(address, now);
        let Some(scope) = scope(error) else { return false };
        let old = match scope {
            Scope::Client => self.client.as_ref(),
            Scope::Address => self.addresses.get(address),
        };
        let lasts = match old {
            None => FIRST,
            // It was under way beside the one that was refused before it: the same news twice.
            Some(old) if began <= old.at => old.lasts,
            Some(old) => (old.lasts * GROWTH).min(LONGEST),
        };
        let refusal = Refusal { error: error.clone(), at: now, lasts, until: now + lasts, claimed: false };
        match scope {
            Scope::Client => self.client = Some(refusal),
            Scope::Address => {
                // What nobody has asked for since then says little about the next attempt.
                self.addresses.retain(|_, old| now < old.until + LONGEST);
                self.addresses.insert(address.clone(), refusal);
            }
        }
        true
    }

    /// An attempt at `address` has succeeded.
    pub(crate) fn accepted(&mut self, address: &NodeAddress) {
        self.client = None;
        self.addresses.remove(address);
    }

    /// An attempt at `address` ended, and how it would have been answered is not known: another one may be made.
    pub(crate) fn ended(&mut self, address: &NodeAddress, now: Instant) {
        let refusals = self.client.iter_mut().chain(self.addresses.get_mut(address));
        for claimed in refusals.filter(|refusal| refusal.claimed) {
            claimed.claimed = false;
            claimed.until = now;
        }
    }
}

fn standing(refusal: Option<&Refusal>, now: Instant) -> Option<Error> {
    refusal.filter(|refusal| now < refusal.until).map(|refusal| refusal.error.clone())
}

/// Whom a failure concerns, if it is one that trying again would only repeat.
fn scope(error: &Error) -> Option<Scope> {
    match error.kind() {
        // The credentials are refused, or there are none to show.
        ErrorKind::Authentication { code: Some(ErrorCode::SASL_AUTHENTICATION_FAILED), .. } => {
            Some(Scope::Client)
        }
        ErrorKind::Authentication { code: None, offered, .. } if offered.is_empty() => Some(Scope::Client),
        // The listener, or the broker, is not what it should be.
        ErrorKind::Authentication { .. } => Some(Scope::Address),
        ErrorKind::Tls { problem, .. } if !problem.is_retriable() => Some(Scope::Address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: Option<ErrorCode>) -> Error {
        ErrorKind::Authentication {
            address: address("a"),
            mechanism: "PLAIN".into(),
            offered: vec!["PLAIN".into()],
            code,
            message: "no".into(),
        }
        .into()
    }

    fn address(host: &str) -> NodeAddress {
        NodeAddress::new(host, 9092)
    }

    const REFUSED: Option<ErrorCode> = Some(ErrorCode::SASL_AUTHENTICATION_FAILED);
    const SETUP: Duration = Duration::from_secs(10);

    #[test]
    fn refused_credentials_stand_for_every_broker_and_longer_each_time() {
        let (mut held, mut now) = (HoldOff::default(), Instant::now());
        let (a, b) = (address("a"), address("b"));
        let mut attempts = Vec::new();
        let start = now;
        while now < start + Duration::from_secs(900) {
            assert!(held.claim(&a, now, SETUP).is_none());
            attempts.push((now - start).as_secs());
            assert!(held.failed(&a, &refusal(REFUSED), now, now));
            assert!(held.refusal(&a, now).is_some() && held.refusal(&b, now).is_some());
            while held.client_refusal(now).is_some() {
                now += Duration::from_millis(500);
            }
        }
        assert_eq!(attempts, [0, 1, 6, 31, 156, 456, 756]);
        held.accepted(&b);
        assert!(held.failed(&a, &refusal(REFUSED), now, now));
        assert!(held.refusal(&a, now + FIRST).is_none());
    }

    #[test]
    fn a_listener_that_is_wrong_holds_up_its_own_address_only() {
        let (mut held, now) = (HoldOff::default(), Instant::now());
        for code in [None, Some(ErrorCode::UNSUPPORTED_SASL_MECHANISM)] {
            assert!(held.failed(&address("a"), &refusal(code), now, now));
            assert!(held.refusal(&address("a"), now).is_some());
            assert!(held.refusal(&address("b"), now).is_none() && held.client_refusal(now).is_none());
        }
    }

    #[test]
    fn after_the_time_one_attempt_is_made_and_the_others_are_told_the_old_refusal() {
        let (mut held, now) = (HoldOff::default(), Instant::now());
        let a = address("a");
        held.failed(&a, &refusal(REFUSED), now, now);
        let later = now + FIRST;
        assert!(held.claim(&a, later, SETUP).is_none());
        assert!(held.claim(&a, later, SETUP).is_some() && held.refusal(&address("b"), later).is_some());
        // It ended without an answer: the next one may try.
        held.ended(&a, later);
        assert!(held.claim(&a, later, SETUP).is_none());
        // It never ended: the next one may try after its time.
        assert!(held.claim(&a, later + SETUP, SETUP).is_none());
    }

    #[test]
    fn attempts_that_were_under_way_together_count_as_one_and_lift_nothing() {
        let (mut held, now) = (HoldOff::default(), Instant::now());
        let a = address("a");
        let later = now + FIRST / 2;
        for _ in 0..20 {
            held.failed(&a, &refusal(REFUSED), now, later);
        }
        assert!(!held.failed(&a, &Error::disconnected(a.clone(), "reset"), now, later));
        assert!(held.refusal(&a, later + FIRST / 2).is_some() && held.refusal(&a, later + FIRST).is_none());
    }
}
