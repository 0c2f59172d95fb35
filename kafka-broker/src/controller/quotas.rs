//! Changes of client quotas.

use std::sync::Arc;

use kafka_wire::error_code::ErrorCode;

use super::{Controller, Refusal};
use crate::image::Image;
use crate::quota::{Alteration, Quotas};

/// How many entities have quotas at most, so that a careless client cannot fill the memory of a test.
const MOST_ENTITIES: usize = 10_000;

impl Controller {
    /// Changes the quotas of each entity on its own; what was refused before is answered so.
    pub(crate) fn alter_quotas(
        &self,
        asked: Vec<Result<Alteration, Refusal>>,
        validate_only: bool,
    ) -> Vec<Result<(), Refusal>> {
        let count = asked.len();
        let changed = self.change(|image, _| {
            let mut quotas = Quotas::clone(&image.quotas);
            let mut alter = |alteration: Alteration| {
                let before = quotas.len();
                let altered = quotas.alter(&alteration);
                altered.map_err(|message| Refusal::new(ErrorCode::INVALID_REQUEST, message))?;
                if quotas.len() > before.max(MOST_ENTITIES) {
                    let removed = alteration.1.into_iter().map(|(key, _)| (key, None)).collect();
                    let _ = quotas.alter(&(alteration.0, removed));
                    let message = format!("At most {MOST_ENTITIES} entities have quotas");
                    return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, message));
                }
                Ok(())
            };
            let outcomes = asked.into_iter().map(|asked| asked.and_then(&mut alter)).collect();
            let next = (!validate_only).then(|| Image { quotas: Arc::new(quotas), ..image.clone() });
            Ok((next, outcomes))
        });
        changed.unwrap_or_else(|refusal| (0..count).map(|_| Err(refusal.clone())).collect())
    }
}
