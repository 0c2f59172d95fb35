//! Each way to connect to a cluster that demands to know who its clients are, in a few lines. The cluster is a bundled one here;
//! against a real one only the addresses, files and passwords differ.

use std::path::Path;
use std::time::Duration;

use examples::Result;
use kafka_broker::{ClientAuth, Cluster, ListenerSpec, OauthKeys, SaslMechanism, TestCa, TokenIssuer};
use kafka_client::Client;
use kafka_client::auth::{Sasl, Token};
use kafka_client::properties::Properties;
use kafka_client::tls::Tls;

/// TLS: the brokers' certificates are signed by an authority of our own. `Tls::platform_roots()` trusts whom the system trusts.
async fn tls(address: &str, files: &Path) -> Result<Client> {
    let tls = Tls::roots_pem_file(files.join("ca.pem"));
    Ok(Client::builder(address).tls(tls).connect().await?)
}

/// Mutual TLS: we are known by a certificate. Files that are replaced are used from the next connection on.
async fn mutual_tls(address: &str, files: &Path) -> Result<Client> {
    let tls = Tls::roots_pem_file(files.join("ca.pem"))
        .identity_pem_files(files.join("alice.pem"), files.join("alice.key"));
    Ok(Client::builder(address).tls(tls).connect().await?)
}

/// A name and a password, which the broker gets to see: over TLS only.
async fn plain(address: &str, files: &Path) -> Result<Client> {
    let tls = Tls::roots_pem_file(files.join("ca.pem"));
    Ok(Client::builder(address).tls(tls).sasl(Sasl::plain("alice", "s3cret")).connect().await?)
}

/// A name and a password, which is proved and never sent; the broker has to prove that it knows it too.
async fn scram(address: &str, files: &Path) -> Result<Client> {
    let tls = Tls::roots_pem_file(files.join("ca.pem"));
    Ok(Client::builder(address).tls(tls).sasl(Sasl::scram_sha_512("alice", "s3cret")).connect().await?)
}

/// A token, asked for whenever a broker wants one. The feature `oidc` has a provider that gets it from an identity provider.
async fn token(address: &str, files: &Path, issuer: TokenIssuer) -> Result<Client> {
    let sasl = Sasl::oauth_bearer(move || {
        let token = issuer.token("alice", Duration::from_secs(60)).map(Token::new);
        async move { token }
    });
    Ok(Client::builder(address).tls(Tls::roots_pem_file(files.join("ca.pem"))).sasl(sasl).connect().await?)
}

/// The settings that a Java client has, or one that builds on librdkafka.
async fn properties(address: &str, files: &Path) -> Result<Client> {
    let properties = Properties::parse(&format!(
        r#"
        bootstrap.servers = {address}
        security.protocol = SASL_SSL
        ssl.truststore.type = PEM
        ssl.truststore.location = {ca}
        sasl.mechanism = SCRAM-SHA-256
        sasl.jaas.config = org.apache.kafka.common.security.scram.ScramLoginModule required \
            username="alice" password="s3cret";
        "#,
        ca = files.join("ca.pem").display()
    ))?;
    let (builder, report) = Client::from_properties(&properties);
    report.check()?;
    Ok(builder.connect().await?)
}

#[tokio::main]
async fn main() -> Result {
    let (ca, issuer) = (TestCa::new(), TokenIssuer::new()?);
    let files = std::env::temp_dir().join(format!("kafka-secure-{}", std::process::id()));
    ca.write_pem(&files)?;
    ca.write_client_pem(&files, "alice")?;
    let cluster = Cluster::builder()
        .tls(&ca)
        .sasl([
            SaslMechanism::Plain,
            SaslMechanism::ScramSha256,
            SaslMechanism::ScramSha512,
            SaslMechanism::OauthBearer,
        ])
        .user("alice", "s3cret")
        .oauth(OauthKeys::jwks(issuer.jwks()))
        .listener(ListenerSpec::ssl("TLS"))
        .listener(ListenerSpec::ssl("MUTUAL").client_auth(ClientAuth::Required))
        .listener(ListenerSpec::sasl_ssl("SASL"))
        .start()
        .await?;
    let at = |listener| cluster.bootstrap_of(listener).ok_or("no such listener");

    let sasl = at("SASL")?;
    for (how, client) in [
        ("TLS", tls(&at("TLS")?, &files).await?),
        ("mutual TLS", mutual_tls(&at("MUTUAL")?, &files).await?),
        ("PLAIN", plain(&sasl, &files).await?),
        ("SCRAM-SHA-512", scram(&sasl, &files).await?),
        ("OAUTHBEARER", token(&sasl, &files, issuer).await?),
        ("properties", properties(&sasl, &files).await?),
    ] {
        println!("{how}: {} broker(s)", client.metadata().brokers().len());
    }
    cluster.stop().await;
    std::fs::remove_dir_all(&files)?;
    Ok(())
}
