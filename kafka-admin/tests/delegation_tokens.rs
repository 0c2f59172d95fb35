//! Delegation tokens, against a broker of this test's making that has one token.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may do what tests do")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_admin::{Admin, ErrorKind, KafkaPrincipal, NewDelegationToken};
use kafka_client::raw::wire::api::Request;
use kafka_client::raw::wire::header::{RequestHeader, encode_response_header};
use kafka_client::raw::wire::messages::api_versions_response::ApiVersion;
use kafka_client::raw::wire::messages::describe_delegation_token_response::{
    DescribedDelegationToken, DescribedDelegationTokenRenewer,
};
use kafka_client::raw::wire::messages::metadata_response::MetadataResponseBroker;
use kafka_client::raw::wire::messages::*;
use kafka_client::{Api, Client, ErrorCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Not text, and not the same in base64 for URLs.
const HMAC: [u8; 4] = [0xff, 0xfe, 0x00, 0x80];
const HMAC_IN_BASE64: &str = "//4AgA==";

/// A broker that speaks the token APIs up to a version, and keeps what it is asked.
#[derive(Clone)]
struct Broker {
    port: u16,
    newest: bool,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Debug, PartialEq)]
enum Asked {
    Create(CreateDelegationTokenRequest),
    Renew(RenewDelegationTokenRequest),
    Expire(ExpireDelegationTokenRequest),
    Describe(DescribeDelegationTokenRequest),
}

impl Broker {
    async fn start(newest: bool) -> (Self, Admin) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Self { port: listener.local_addr().unwrap().port(), newest, asked: Arc::default() };
        let accepting = broker.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        let client = Client::connect(format!("127.0.0.1:{}", broker.port)).await.unwrap();
        (broker, Admin::new(&client))
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Ok(length) = stream.read_i32().await {
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut frame).await.unwrap();
            let frame = Bytes::from(frame);
            let (header, body) = RequestHeader::decode(&frame).unwrap();
            let (api, version) = (header.api, header.version);
            let body = self.answer(api, version, body);
            let header = encode_response_header(api, version, header.correlation_id, body.len()).unwrap();
            stream.write_all(&[&header[..], &body[..]].concat()).await.unwrap();
        }
    }

    fn newest(&self, api: Api) -> i16 {
        match api {
            Api::CreateDelegationToken | Api::DescribeDelegationToken if !self.newest => 2,
            Api::Metadata => 12,
            _ => api.versions().max,
        }
    }

    fn answer(&self, api: Api, version: i16, body: Bytes) -> BytesMut {
        let ask = |asked| self.asked.lock().unwrap().push(asked);
        let mut out = BytesMut::new();
        let bytes = Bytes::from_static(&HMAC);
        let string = StrBytes::from_static_str;
        match api {
            Api::ApiVersions => {
                let speaks = |api: Api| {
                    ApiVersion::default()
                        .with_api_key(api.key())
                        .with_min_version(api.versions().min)
                        .with_max_version(self.newest(api))
                };
                let apis = [
                    Api::Metadata,
                    Api::ApiVersions,
                    Api::CreateDelegationToken,
                    Api::RenewDelegationToken,
                    Api::ExpireDelegationToken,
                    Api::DescribeDelegationToken,
                ];
                let response =
                    ApiVersionsResponse::default().with_api_keys(apis.into_iter().map(speaks).collect());
                ApiVersionsRequest::encode_response(&response, version, &mut out).unwrap();
            }
            Api::Metadata => {
                let broker = MetadataResponseBroker::default()
                    .with_node_id(BrokerId(1))
                    .with_host(string("127.0.0.1"))
                    .with_port(i32::from(self.port));
                let response =
                    MetadataResponse::default().with_brokers(vec![broker]).with_controller_id(BrokerId(1));
                MetadataRequest::encode_response(&response, version, &mut out).unwrap();
            }
            Api::CreateDelegationToken => {
                let request = CreateDelegationTokenRequest::decode(version, body).unwrap();
                let owner = request.owner_principal_name.clone().filter(|owner| !owner.is_empty());
                let owner = owner.unwrap_or(string("me"));
                let mut response = CreateDelegationTokenResponse::default()
                    .with_principal_type(string("User"))
                    .with_principal_name(owner)
                    .with_issue_timestamp_ms(1)
                    .with_expiry_timestamp_ms(2)
                    .with_max_timestamp_ms(3)
                    .with_token_id(string("the-id"))
                    .with_hmac(bytes);
                if version >= 3 {
                    response.token_requester_principal_type = string("User");
                    response.token_requester_principal_name = string("me");
                }
                ask(Asked::Create(request));
                CreateDelegationTokenRequest::encode_response(&response, version, &mut out).unwrap();
            }
            Api::RenewDelegationToken => {
                let request = RenewDelegationTokenRequest::decode(version, body).unwrap();
                let known = request.hmac == bytes;
                let code = if known { ErrorCode::NONE } else { ErrorCode::DELEGATION_TOKEN_NOT_FOUND };
                let response = RenewDelegationTokenResponse::default()
                    .with_error_code(code.0)
                    .with_expiry_timestamp_ms(77);
                ask(Asked::Renew(request));
                RenewDelegationTokenRequest::encode_response(&response, version, &mut out).unwrap();
            }
            Api::ExpireDelegationToken => {
                let request = ExpireDelegationTokenRequest::decode(version, body).unwrap();
                let response = ExpireDelegationTokenResponse::default().with_expiry_timestamp_ms(5);
                ask(Asked::Expire(request));
                ExpireDelegationTokenRequest::encode_response(&response, version, &mut out).unwrap();
            }
            Api::DescribeDelegationToken => {
                let request = DescribeDelegationTokenRequest::decode(version, body).unwrap();
                let renewer = DescribedDelegationTokenRenewer::default()
                    .with_principal_type(string("User"))
                    .with_principal_name(string("bob"));
                let mut token = DescribedDelegationToken::default()
                    .with_principal_type(string("User"))
                    .with_principal_name(string("me"))
                    .with_token_id(string("the-id"))
                    .with_hmac(bytes)
                    .with_renewers(vec![renewer]);
                if version >= 3 {
                    token.token_requester_principal_type = string("User");
                    token.token_requester_principal_name = string("me");
                }
                let response = DescribeDelegationTokenResponse::default().with_tokens(vec![token]);
                ask(Asked::Describe(request));
                DescribeDelegationTokenRequest::encode_response(&response, version, &mut out).unwrap();
            }
            api => panic!("{api} was asked"),
        }
        out
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[tokio::test]
async fn a_token_for_another_is_made_described_renewed_and_let_expire() {
    let (broker, admin) = Broker::start(true).await;
    let (alice, bob) = (KafkaPrincipal::user("alice"), KafkaPrincipal::user("bob"));
    let lifetime = Duration::from_secs(60);
    let wanted = NewDelegationToken::new().owner(alice.clone()).renewer(bob.clone()).max_lifetime(lifetime);
    let token = admin.create_delegation_token(wanted).await.unwrap();
    assert_eq!(token.hmac.expose(), HMAC_IN_BASE64);
    assert!(!format!("{token:?}").contains(HMAC_IN_BASE64));
    assert_eq!((token.info.owner, token.info.requester), (alice, Some(KafkaPrincipal::user("me"))));
    let renewers = std::slice::from_ref(&bob);
    assert_eq!(token.info.renewers, renewers);
    let times = (token.info.issue_timestamp, token.info.expiry_timestamp, token.info.max_timestamp);
    assert_eq!(times, (1, 2, 3));

    let described = admin.describe_delegation_tokens().await.unwrap();
    assert_eq!(described[0].hmac.expose(), HMAC_IN_BASE64);
    assert_eq!(described[0].info.renewers, renewers);
    let of_bob = admin.describe_delegation_tokens_of([bob]).await.unwrap();
    assert_eq!(of_bob.len(), 1);
    assert_eq!(admin.renew_delegation_token(&token.hmac, Some(lifetime)).await.unwrap(), 77);
    assert_eq!(admin.renew_delegation_token(&token.hmac, None).await.unwrap(), 77);
    assert_eq!(admin.expire_delegation_token(&token.hmac, None).await.unwrap(), 5);
    let other = admin.renew_delegation_token(&"AAAA".into(), None).await.unwrap_err();
    assert_eq!(other.error_code(), Some(ErrorCode::DELEGATION_TOKEN_NOT_FOUND));

    let asked = broker.asked();
    let [Asked::Create(create), Asked::Describe(all), Asked::Describe(bobs), rest @ ..] = &asked[..] else {
        panic!("{asked:?}")
    };
    assert_eq!(create.owner_principal_name.as_deref(), Some("alice"));
    assert_eq!((create.renewers.len(), create.max_lifetime_ms), (1, 60_000));
    assert_eq!(all.owners, None);
    assert_eq!(bobs.owners.as_ref().unwrap()[0].principal_name.as_str(), "bob");
    let renew = |hmac: &'static [u8], period| {
        let request = RenewDelegationTokenRequest::default().with_hmac(Bytes::from_static(hmac));
        Asked::Renew(request.with_renew_period_ms(period))
    };
    let expire = ExpireDelegationTokenRequest::default().with_hmac(Bytes::from_static(&HMAC));
    let expected = [
        renew(&HMAC, 60_000),
        renew(&HMAC, -1),
        Asked::Expire(expire.with_expiry_time_period_ms(-1)),
        renew(&[0, 0, 0], -1),
    ];
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn an_older_broker_makes_tokens_for_the_one_who_asks_and_for_no_other() {
    let (broker, admin) = Broker::start(false).await;
    let token = admin.create_delegation_token(NewDelegationToken::new()).await.unwrap();
    assert_eq!((token.info.owner, token.info.requester), (KafkaPrincipal::user("me"), None));
    assert_eq!(admin.describe_delegation_tokens().await.unwrap()[0].info.requester, None);
    let for_another = NewDelegationToken::new().owner(KafkaPrincipal::user("alice"));
    let error = admin.create_delegation_token(for_another).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnsupportedVersion { feature: Some(_), .. }), "{error:?}");
    assert_eq!(broker.asked().len(), 2);
}
