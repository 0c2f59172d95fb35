//! InitProducerId: a new id for every idempotent producer that asks.

use std::sync::atomic::Ordering;

use kafka_wire::acl::{AclOperation, ResourceType};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use crate::shared::RequestContext;

pub(crate) async fn handle(ctx: &RequestContext, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refused = |code: ErrorCode| {
        let nobody =
            InitProducerIdResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
        nobody.with_error_code(code.0)
    };
    let may_write = match &request.transactional_id {
        Some(id) => ctx.authorize(AclOperation::Write, ResourceType::TransactionalId, id),
        // Whoever may write to some topic may do so idempotently (KIP-679).
        None if ctx.may_with_some(AclOperation::Write, ResourceType::Topic) => Ok(()),
        None => ctx.authorize_cluster(AclOperation::IdempotentWrite),
    };
    if let Err(code) = may_write {
        return refused(code);
    }
    match request.transactional_id {
        Some(id) if id.is_empty() => refused(ErrorCode::INVALID_REQUEST),
        // This broker has no transactions, and does not advertise the APIs for them.
        Some(_) => refused(ErrorCode::UNSUPPORTED_VERSION),
        // Without a transaction a producer that names its old id gets a new one as well, as in Kafka.
        None => {
            let id = ctx.shared.next_producer_id.fetch_add(1, Ordering::Relaxed);
            InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_wire::messages::TransactionalId;

    use super::*;
    use crate::testing::Bench;

    #[tokio::test]
    async fn every_producer_gets_its_own_id_at_epoch_0() {
        let bench = Bench::new(2);
        for expected in 0..4 {
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            let response = bench.call(1 + expected % 2, 4, request).await;
            assert_eq!((response.error_code, response.producer_id.0), (0, i64::from(expected)));
            assert_eq!(response.producer_epoch, 0);
        }
        let transactional =
            InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId("t".into())));
        let response = bench.call(1, 4, transactional).await;
        assert_eq!(ErrorCode(response.error_code), ErrorCode::UNSUPPORTED_VERSION);
        assert_eq!(response.producer_id.0, -1);
    }
}
