//! Changes of access control lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_wire::error_code::ErrorCode;

use super::{Controller, Refusal};
use crate::acl::{Acl, AclFilter, AclSet, Authorizer};
use crate::image::Image;

/// What a cluster holds at most, so that a careless client cannot fill the memory of a test.
const MOST_ACLS: usize = 10_000;

impl Controller {
    /// Adds those that are not there yet; what was refused before is answered so.
    pub(crate) fn create_acls(&self, asked: Vec<Result<Acl, Refusal>>) -> Vec<Result<(), Refusal>> {
        let count = asked.len();
        self.change_acls(count, |acls| {
            let mut create = |acl: Acl| {
                if acls.len() >= MOST_ACLS && !acls.contains(&acl) {
                    let message = format!("A cluster holds at most {MOST_ACLS} access control lists");
                    return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message));
                }
                acls.insert(acl);
                Ok(())
            };
            asked.into_iter().map(|asked| asked.and_then(&mut create)).collect()
        })
    }

    /// Deletes what each filter matches, and tells it.
    pub(crate) fn delete_acls(
        &self,
        filters: Vec<Result<AclFilter, Refusal>>,
    ) -> Vec<Result<Vec<Acl>, Refusal>> {
        let count = filters.len();
        self.change_acls(count, |acls| {
            // As Kafka: each filter sees all that were there, so that two can match the same one.
            let before = acls.clone();
            let delete = |filter: AclFilter| {
                let gone: Vec<Acl> = before.iter().filter(|acl| filter.matches(acl)).cloned().collect();
                acls.retain(|acl| !filter.matches(acl));
                gone
            };
            let mut delete = delete;
            filters.into_iter().map(|filter| filter.map(&mut delete)).collect()
        })
    }

    /// Those that a filter matches, by resource.
    pub(crate) fn find_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, Refusal> {
        let image = self.image();
        let authorizer = image.authorizer.as_ref().ok_or_else(disabled)?;
        Ok(authorizer.acls.all().iter().filter(|acl| filter.matches(acl)).cloned().collect())
    }

    /// Runs one change of the set, of which `count` parts are answered.
    fn change_acls<T>(
        &self,
        count: usize,
        change: impl FnOnce(&mut BTreeSet<Acl>) -> Vec<Result<T, Refusal>>,
    ) -> Vec<Result<T, Refusal>> {
        let changed = self.change(|image, _| {
            let authorizer = image.authorizer.as_ref().ok_or_else(disabled)?;
            let mut acls = authorizer.acls.all().clone();
            let outcomes = change(&mut acls);
            if acls == *authorizer.acls.all() {
                return Ok((None, outcomes));
            }
            let authorizer = Authorizer { acls: AclSet::new(acls), ..Authorizer::clone(authorizer) };
            Ok((Some(Image { authorizer: Some(Arc::new(authorizer)), ..image.clone() }), outcomes))
        });
        changed.unwrap_or_else(|refusal| (0..count).map(|_| Err(refusal.clone())).collect())
    }
}

fn disabled() -> Refusal {
    Refusal::new(ErrorCode::SECURITY_DISABLED, "No Authorizer is configured.")
}
