//! What the manufacturers' services are asked for.

use std::sync::Arc;
use std::time::Duration;

use attestation::tdx::{Answer, Answers, MAX_ANSWER_BYTES, PlatformModel, Statement};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use rustls::ClientConfig;
use url::Url;

use super::{Lack, SupplyFault};
use crate::exchange::{self, Bounds};
use crate::host_config::CollateralConfig;

/// A service is slow on a bad day, and nobody waits for it.
const BOUNDS: Bounds = Bounds {
    deadline: Duration::from_secs(20),
    max_bytes: MAX_ANSWER_BYTES,
};

/// Asks for what is lacking. Nothing is verified yet.
pub(super) async fn ask(
    lack: &Lack,
    config: &CollateralConfig,
    tls: &Arc<ClientConfig>,
) -> Result<Vec<u8>, SupplyFault> {
    match lack {
        Lack::Vcek(path) => {
            let answer = get(&config.amd_kds, path, tls).await?;
            Ok(answer.into_body().to_vec())
        }
        Lack::Statements(model) => {
            let answers = Answers {
                tcb_info: about(Statement::TcbInfo, model, config, tls).await?,
                qe_identity: about(Statement::QeIdentity, model, config, tls).await?,
                pck_crl: about(Statement::PckCrl, model, config, tls).await?,
                root_crl: get(&config.intel_root_crl, "", tls)
                    .await?
                    .into_body()
                    .to_vec(),
            };
            Ok(answers.collateral()?)
        }
    }
}

async fn about(
    statement: Statement,
    model: &PlatformModel,
    config: &CollateralConfig,
    tls: &Arc<ClientConfig>,
) -> Result<Answer, SupplyFault> {
    let answer = get(&config.intel_pcs, &statement.path(model), tls).await?;
    let chain = answer.headers().get(statement.chain_header());
    let chain = chain.and_then(|value| value.to_str().ok());
    let chain = chain.unwrap_or_default().to_owned();
    Ok(Answer {
        body: answer.into_body().to_vec(),
        chain,
    })
}

async fn get(
    endpoint: &Url,
    path: &str,
    tls: &Arc<ClientConfig>,
) -> Result<Response<Bytes>, SupplyFault> {
    let host = || endpoint.host_str().unwrap_or_default().to_owned();
    let path = path.trim_start_matches('/');
    let sent = exchange::send(endpoint, tls, BOUNDS, (Method::GET, path, String::new())).await;
    let answer = sent.map_err(|source| SupplyFault::NoAnswer {
        host: host(),
        source,
    })?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status => Err(SupplyFault::Status {
            host: host(),
            status: status.as_u16(),
        }),
    }
}
