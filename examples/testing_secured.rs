//! How a user tests a secured setup of their own: brokers with TLS and passwords, a service that lacks a permission, a password
//! that is wrong, and what the service does about it.

use std::time::Duration;

use examples::Result;
use kafka_broker::{Acl, AclOperation, Cluster, ResourcePattern, SaslMechanism, TestCa};
use kafka_client::auth::Sasl;
use kafka_client::tls::Tls;
use kafka_client::{Client, ErrorCode, ErrorKind};
use kafka_producer::{Producer, ProducerRecord};

/// The service under test: records an order, and a refusal, which nobody should lose, in a topic of its own.
async fn place_order(client: &Client, order: &str) -> Result<&'static str> {
    let producer = Producer::new(client).await?;
    let topic = match producer.send(ProducerRecord::to("orders").value(order)).await {
        Ok(_) => "orders",
        Err(error) if error.error_code() == Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED) => {
            producer.send(ProducerRecord::to("refused").value(order)).await?;
            "refused"
        }
        Err(error) => return Err(error.into()),
    };
    producer.close(Duration::from_secs(10)).await?;
    Ok(topic)
}

/// In a project of one's own this is a `#[tokio::test]`.
async fn an_order_that_may_not_be_placed_is_kept_elsewhere() -> Result {
    let ca = TestCa::new();
    let may_write = |topic| Acl::allow("User:billing", AclOperation::Write, ResourcePattern::topic(topic));
    let cluster = Cluster::builder()
        .brokers(3)
        .topic("orders", 1, 3)
        .topic("refused", 1, 3)
        .tls(&ca)
        .sasl([SaslMechanism::ScramSha512])
        .user("billing", "s3cret")
        .acl(may_write("refused"))
        .start()
        .await?;
    let login = |password: &str| {
        Client::builder(cluster.bootstrap())
            .tls(Tls::roots_pem(ca.ca_pem()))
            .sasl(Sasl::scram_sha_512("billing", password))
    };

    let client = login("s3cret").connect().await?;
    assert_eq!(place_order(&client, "order-1").await?, "refused");

    // Fails at once, and is not tried again: nothing locks the account out.
    let error = login("guessed").connect().await.err().ok_or("the password is wrong")?;
    assert!(matches!(error.kind(), ErrorKind::Authentication { .. }), "{error}");
    cluster.stop().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result {
    an_order_that_may_not_be_placed_is_kept_elsewhere().await?;
    println!("an_order_that_may_not_be_placed_is_kept_elsewhere ... ok");
    Ok(())
}
